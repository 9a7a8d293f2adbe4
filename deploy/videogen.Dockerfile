# Human video from a scene image and a sentence. Build from the repository root.
FROM python:3.11-slim-bookworm

# Off-screen rendering for the `demonstrator` backend.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libgles2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home gen2act

WORKDIR /app
COPY constraints.txt ./
COPY libs/contracts libs/contracts
COPY libs/servicekit libs/servicekit
COPY sim sim
COPY services/videogen services/videogen
COPY models/imagination models/imagination
RUN pip install --no-cache-dir -c constraints.txt \
    "./libs/contracts[video]" ./libs/servicekit ./sim "./services/videogen[demonstrator,learned]"

USER 10001:10001
ENV PYTHONUNBUFFERED=1 GEN2ACT_HOST=0.0.0.0
EXPOSE 50051 9101
CMD ["python", "-m", "gen2act_videogen"]
