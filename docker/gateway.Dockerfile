# The gateway: reads and verifies artefacts; no torch, Ray, Prefect or MLflow inside.
FROM python:3.11-slim-bookworm
WORKDIR /opt/alphalake
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY lakehouse lakehouse
COPY lab lab
COPY flows flows
COPY serve serve
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' \
 && useradd --create-home gateway
USER gateway
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["python", "-m", "serve", "--host", "0.0.0.0", "--port", "8000"]
