# syntax=docker/dockerfile:1
# The bridge.
#
#   ./scripts/image build bridge
#   docker run --env-file .env -e HOST=0.0.0.0 -p 8080:8080 personaplex-bridge
#
# docs/deploy.md tells the rest: with a model server on one machine, behind a proxy, as a
# service.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/bridge
# All that a bridge can be asked for, a call history and traces included. opuslib and the like are
# published as source: first what builds them.
COPY requirements/build.txt requirements/image.txt /build/requirements/
RUN /opt/bridge/bin/pip install --require-hashes -r /build/requirements/build.txt \
    && /opt/bridge/bin/pip install --require-hashes --no-build-isolation \
        -r /build/requirements/image.txt
COPY pyproject.toml README.md /build/
COPY src /build/src
RUN /opt/bridge/bin/pip install --no-deps --no-build-isolation /build

FROM ${BASE}
# A volume that is mounted at the folder for recordings gets its owner.
# Debian keeps one version of each package in a release: there is nothing to pin to.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libogg0 libopus0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home bridge \
    && install -d -m 700 -o bridge -g bridge /home/bridge/recordings
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8080
USER 10001:10001
WORKDIR /home/bridge
EXPOSE 8080
# Calls in progress go on for DRAIN_TIMEOUT: give the container longer than that to stop.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["personaplex-bridge"]
CMD ["serve"]
