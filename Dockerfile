# Unmask as a server (the default), or as a command: docker run unmask scan /clips
FROM python:3.11-slim

# The index of PyTorch's CPU wheels; without it the CUDA wheels are installed, some 3 GB more.
ARG PYTORCH_CPU_INDEX=""

WORKDIR /src
COPY requirements.txt ./
RUN if [ -n "$PYTORCH_CPU_INDEX" ]; then \
        pip install --no-cache-dir $(grep -E "^torch(vision)?==" requirements.txt) \
            --index-url "$PYTORCH_CPU_INDEX"; \
    fi \
    && pip install --no-cache-dir -r requirements.txt

COPY . .
RUN pip install --no-cache-dir --no-deps . && useradd --create-home unmask && cd / && rm -rf /src
WORKDIR /home/unmask
USER unmask

EXPOSE 7860
ENTRYPOINT ["unmask"]
CMD ["app", "--no-browser", "--host", "0.0.0.0", "--port", "7860"]
