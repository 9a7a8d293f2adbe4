# The robot's side with the simulated robot's driver. Build from the repository root.
FROM python:3.11-slim-bookworm

# Off-screen rendering for the simulated robot.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libgles2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home gen2act

WORKDIR /app
COPY constraints.txt ./
COPY libs/contracts libs/contracts
COPY sim sim
COPY robot_client robot_client
RUN pip install --no-cache-dir -c constraints.txt ./libs/contracts ./sim "./robot_client[sim]"

USER 10001:10001
ENV PYTHONUNBUFFERED=1
CMD ["robot_client", "run", "--robot", "sim", "--robot-id", "sim-1", \
     "--orchestrator", "orchestrator:50053", "--policy", "policy:50052"]
