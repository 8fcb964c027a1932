#!/bin/sh
# Runs once, when the database container makes its cluster: the role that migrates, the one that runs, the sequencer's.
# `up` makes the same three (devstack/services.py).
set -eu
psql -v ON_ERROR_STOP=1 --username postgres \
    -v owner_password="$OWNER_DB_PASSWORD" -v app_password="$APP_DB_PASSWORD" \
    -v sequencer_password="$SEQUENCER_DB_PASSWORD" <<'SQL'
CREATE ROLE openledger_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
CREATE ROLE openledger_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'app_password';
CREATE ROLE openledger_sequencer LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'sequencer_password';
ALTER ROLE openledger_app SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE openledger_app SET transaction_timeout = '10min';
ALTER ROLE openledger_sequencer SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE openledger_sequencer SET transaction_timeout = '10min';
CREATE DATABASE openledger OWNER openledger_owner;
REVOKE ALL ON DATABASE openledger FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE openledger TO openledger_app, openledger_sequencer;
SQL
