# oscd as an image: docker build -t oscd .
#
# Nothing secret is in it, nothing in it is written while it runs, and it runs as nobody in particular: any user id
# will do whose group is 0. Mount keys as files and name them by OSC_…_FILE; keep /var/lib/oscd, which is the log.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/oscd
# Apart from the code, so that a change of it fetches nothing.
COPY requirements.lock ./
RUN /opt/oscd/bin/pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml LICENSE ./
COPY oscd ./oscd
RUN /opt/oscd/bin/pip install --no-deps --no-build-isolation . \
    && /opt/oscd/bin/pip uninstall --yes setuptools pip

FROM ${PYTHON_IMAGE} AS run
# curl: health checks of compose files made for OpenSecureConf call it. No version: the newest of a stable Debian is the
# one with its security fixes, and the one before is soon gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=10001 --group=0 --mode=0770 /var/lib/oscd
COPY --from=build /opt/oscd /opt/oscd
COPY compose/image/ready /usr/local/bin/oscd-ready
ENV PATH=/opt/oscd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/tmp \
    OSC_HOST=0.0.0.0
WORKDIR /var/lib/oscd
VOLUME ["/var/lib/oscd"]
USER 10001:0
EXPOSE 9000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["oscd-ready"]
ENTRYPOINT ["oscd"]
CMD ["serve"]
