# The image that code runs in under the docker backend: Python, a shell, the usual small tools, one ordinary user.
# `palaestra sandbox build` builds it, with BASE made of the machine's own Python where no registry can be reached, so
# BASE needs no more than /bin/sh, python3, find and chmod. Nothing here is run as root but this build.
ARG BASE=python:3.12.11-slim-bookworm
FROM ${BASE}

ARG VERSION=dev
ARG ORIGIN=registry
LABEL org.opencontainers.image.title="palaestra-sandbox" \
      org.opencontainers.image.description="Runs code that nobody vouches for" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      io.palaestra.image="sandbox" \
      io.palaestra.origin="${ORIGIN}"

# Files that lend their owner's rights are of no use here; compiled modules start Python faster on a read-only disk.
RUN printf 'sandbox:x:10001:10001:sandbox:/work:/bin/sh\n' >> /etc/passwd \
    && printf 'sandbox:x:10001:\n' >> /etc/group \
    && mkdir -p /work \
    && chmod 0755 /work \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && python3 -c "import compileall, re, sysconfig; \
compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=2, rx=re.compile('/(test|tests|lib2to3|site-packages)/'))"

ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
USER 10001:10001
CMD ["python3"]
