# The lab: flows, CLI and the process worker of pool `lab`.
FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends git libgomp1 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/alphalake
COPY pyproject.toml constraints.txt README.md LICENSE prefect.yaml ./
COPY lakehouse lakehouse
COPY lab lab
COPY flows flows
COPY serve serve
# torch first: the policy's PPO needs it, and a later line would take a CUDA build.
RUN pip install --no-cache-dir -c constraints.txt torch==2.13.0 \
 && pip install --no-cache-dir -c constraints.txt '.[research,learning,cluster,flows]' \
 && useradd --create-home lab \
 && install -d -o lab -g lab /var/lib/alphalake/root /var/lib/alphalake/keys
USER lab
ENV PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30
CMD ["prefect", "worker", "start", "--pool", "lab"]
