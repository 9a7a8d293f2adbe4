# Human video and robot frames to end-effector actions. Build from the repository root.
FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 --create-home gen2act

# cpu or gpu: onnxruntime and onnxruntime-gpu share an import path, so one image has one of them.
ARG RUNTIME=cpu

WORKDIR /app
COPY constraints.txt ./
COPY libs/contracts libs/contracts
COPY libs/servicekit libs/servicekit
COPY services/policy services/policy
RUN pip install --no-cache-dir -c constraints.txt \
    "./libs/contracts[video]" ./libs/servicekit "./services/policy[${RUNTIME}]"
COPY models models

USER 10001:10001
ENV PYTHONUNBUFFERED=1 GEN2ACT_HOST=0.0.0.0
EXPOSE 50052 9102
CMD ["python", "-m", "gen2act_policy"]
