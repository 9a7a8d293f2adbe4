# Tasks, stages, the planner, the robot gateway and the HTTP API. Build from the repository root.
FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 --create-home gen2act

WORKDIR /app
COPY constraints.txt ./
COPY libs/contracts libs/contracts
COPY libs/servicekit libs/servicekit
COPY services/orchestrator services/orchestrator
RUN pip install --no-cache-dir -c constraints.txt \
    "./libs/contracts[video]" ./libs/servicekit ./services/orchestrator

USER 10001:10001
ENV PYTHONUNBUFFERED=1 GEN2ACT_HOST=0.0.0.0
EXPOSE 8000 50053
CMD ["python", "-m", "gen2act_orchestrator"]
