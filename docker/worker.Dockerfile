# The worker: the lab's image started on one batch host, one run at a time.
ARG LAB_IMAGE=alphalake-lab:latest
FROM ${LAB_IMAGE}
ENV PREFECT_WORKER_QUERY_SECONDS=1
CMD ["prefect", "worker", "start", "--pool", "lab", "--limit", "1"]
