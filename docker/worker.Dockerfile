# The forecast worker: the lab's image with the models' libraries, on the host of the card.
ARG LAB_IMAGE=alphalake-lab:latest
FROM ${LAB_IMAGE}
USER root
RUN pip install --no-cache-dir -c constraints.txt '.[models]' \
 && install -d -o lab -g lab /var/lib/alphalake/worker
USER lab
ENV ALPHALAKE_WORKER_STATE=/var/lib/alphalake/worker
CMD ["alphalake", "worker"]
