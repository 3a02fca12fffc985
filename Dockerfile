# One image for every part of gsd-tasks: `gsd-tasks worker`, `maintenance`, `beat`, `api`, `flower`, `migrate`.
#
#   docker build -t gsd-tasks .
#   docker build -t gsd-tasks --build-arg PACKAGES="ca-certificates git make nodejs npm" .
#
# Sessions find in it what PACKAGES names, and nothing else: add what yours need, or begin an image of your own with
# `FROM gsd-tasks`. The claude CLI is in it, in the version that requirements/image.txt locks.

ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/gsd-tasks
WORKDIR /src
# What changes seldom first: these layers are kept from build to build.
COPY requirements/image.txt requirements/
RUN /opt/gsd-tasks/bin/pip install --require-hashes --only-binary :all: -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY gsd_tasks gsd_tasks
RUN /opt/gsd-tasks/bin/pip install --no-index --no-deps --no-build-isolation .

FROM python:${PYTHON}
ARG PACKAGES="ca-certificates git"
ARG UID=10001
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ${PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid ${UID} gsd \
    && useradd --uid ${UID} --gid ${UID} --create-home --home-dir /home/gsd --shell /bin/bash gsd \
    && install --directory --owner ${UID} --group ${UID} --mode 0700 /var/lib/gsd \
    && install --directory --owner ${UID} --group ${UID} /workspaces
COPY --from=build /opt/gsd-tasks /opt/gsd-tasks
# The command alone, and not the environment that it is in: a session's `python` and `pip` are not ours.
RUN ln -s /opt/gsd-tasks/bin/gsd-tasks /usr/local/bin/gsd-tasks
ENV GSD_STATE_DIR=/var/lib/gsd
# A number, so that Kubernetes can tell that it is not root.
USER ${UID}:${UID}
WORKDIR /workspaces
# The worker is the first process of its container: a smaller one before it would hold the worker's environment, and let
# sessions read it.
ENTRYPOINT ["gsd-tasks"]
CMD ["--help"]
