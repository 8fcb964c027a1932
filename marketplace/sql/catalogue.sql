-- What the gateway knows, as views: it imports no model, so these columns are its contract with the shop.

-- One row per version that answers; the newest number is what `owner/slug` means. Unlisted ones are for their owner.
CREATE VIEW gateway_models AS
SELECT m.id AS model_id, v.id AS version_id, v.number, m.owner_id, u.username AS owner, m.slug, m.name, m.purpose,
  m.engine, m.access_mode, m.pass_price_nano, m.pass_days, m.free_calls_per_day, m.context_tokens, m.max_output_tokens,
  m.upstream_url, m.upstream_model, m.upstream_key_token,
  (SELECT coalesce(jsonb_agg(jsonb_build_object('url', f.url, 'model', f.model_name, 'key_token', f.key_token) ORDER BY f.place), '[]')
    FROM marketplace_fallback f WHERE f.model_id = m.id) AS upstream_fallbacks, v.artifact_sha256, v.created_at,
  m.listed_at IS NOT NULL AS listed, m.retire_from, r.id AS rule_id, r.sha256 AS rule_sha256,
  jsonb_build_object('data', r.data_bp, 'curation', r.curation_bp, 'developer', r.developer_bp,
                     'platform', r.platform_bp, 'owner', r.owner_bp) AS rule_parts,
  coalesce(d.owner_ids, '{}') AS owner_ids, coalesce(d.datanets, '[]') AS datanets,
  a.settings->>'task' AS task, a.method AS attribution_method, coalesce(a.metrics, '{}') AS metrics, coalesce(a.record_count, 0) AS record_count,
  -- The card in force; figures are as stored, so that this row says what the site's pages say.
  (SELECT jsonb_build_object('number', c.number, 'measured_at', to_char(c.done_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
                             'seed', c.seed, 'figures', c.figures, 'below_floor', c.below, 'cpu_ms', c.cpu_ms)
    FROM attribution_scorecard c WHERE c.model_version_id = v.id AND c.status = 'done'
    ORDER BY c.number DESC LIMIT 1) AS score_card
FROM marketplace_listedmodel m
JOIN marketplace_modelversion v ON v.model_id = m.id
JOIN accounts_user u ON u.id = m.owner_id
JOIN marketplace_splitrule r ON r.id = m.split_rule_id
LEFT JOIN attribution_artifact a ON a.sha256 = v.artifact_sha256
LEFT JOIN LATERAL (
  SELECT array_agg(DISTINCT n.owner_id ORDER BY n.owner_id) AS owner_ids,
    jsonb_agg(jsonb_build_object('id', n.id, 'datanet', o.username || '/' || n.slug, 'version', 'v' || f.number,
                                 'kind', n.kind, 'licence', n.licence) ORDER BY o.username, n.slug) AS datanets
  FROM marketplace_trainingrun_versions t
  JOIN datanets_version f ON f.id = t.version_id
  JOIN datanets_datanet n ON n.id = f.datanet_id
  JOIN accounts_user o ON o.id = n.owner_id
  WHERE t.trainingrun_id = v.training_run_id
) d ON true
WHERE m.retired_at IS NULL AND (m.retire_from IS NULL OR m.retire_from > now());

-- The price list in force.
CREATE VIEW gateway_prices AS
SELECT DISTINCT ON (p.model_id) p.model_id, p.id AS price_list_id, p.sha256, p.price_call_nano, p.price_in_nano,
  p.price_out_nano, p.price_abstain_nano
FROM marketplace_pricelist p WHERE p.effective_at <= now()
ORDER BY p.model_id, p.effective_at DESC, p.id DESC;

-- Keys that work now: of a shared wallet only while who made them may spend from it. Read one by one, by hash: there may be
-- millions.
CREATE VIEW gateway_keys AS
SELECT k.id AS key_id, k.sha256, k.owner_id, k.made_by_id, coalesce(k.limits_of_id, k.id) AS limits_id,
  coalesce(k.spend_cap_nano, k.spend_cap_day_nano, k.spend_cap_month_nano) IS NOT NULL AS is_capped,
  k.requests_per_minute, k.tokens_per_minute, k.calls_at_once, k.content_days, k.allowed_origins, k.scopes, k.is_test,
  least(k.expires_at, k.replaced_until) AS expires_at,
  (SELECT array_agg(a.listedmodel_id) FROM marketplace_apikey_allowed_models a WHERE a.apikey_id = k.id)
    AS allowed_model_ids
FROM marketplace_apikey k JOIN accounts_user u ON u.id = k.owner_id
WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
  AND (k.replaced_until IS NULL OR k.replaced_until > now()) AND u.is_active
  AND (k.made_by_id = k.owner_id OR EXISTS (
    SELECT FROM marketplace_sharedwallet w JOIN marketplace_walletmember m ON m.wallet_id = w.id
    WHERE w.account_id = k.owner_id AND m.user_id = k.made_by_id AND m.role IN ('owner', 'spender')));

-- Passes and invitations that hold now.
CREATE VIEW gateway_accesses AS
SELECT a.buyer_id, a.model_id, a.ends_at
FROM marketplace_access a
WHERE a.revoked_at IS NULL AND a.starts_at <= now() AND (a.ends_at IS NULL OR a.ends_at > now());

CREATE VIEW gateway_withdrawn AS
SELECT r.id AS record_id, r.datanet_id FROM datanets_record r WHERE r.status = 'withdrawn';

-- From which Datanet a record is, and since when: what a caller may require of the data behind an answer. Neither changes.
CREATE VIEW gateway_sources AS
SELECT r.id AS record_id, r.datanet_id, r.created_at FROM datanets_record r;

-- The words that retrieval may quote: read for each answer, so that a withdrawn record is out at once.
CREATE VIEW gateway_passages AS
SELECT r.id AS record_id, r.identity, r.title, b.body->>'text' AS text, o.username || '/' || n.slug AS datanet
FROM datanets_record r
JOIN datanets_recordbody b ON b.record_id = r.id
JOIN datanets_datanet n ON n.id = r.datanet_id
JOIN accounts_user o ON o.id = n.owner_id
WHERE r.status = 'approved';

CREATE VIEW gateway_calls AS
SELECT c.id, c.buyer_id, coalesce(k.made_by_id, c.buyer_id) AS made_by_id, c.key_id, u.username || '/' || m.slug || '@v' || v.number AS model, p.sha256 AS price_version,
  c.endpoint, c.status, c.error_code, c.streamed, c.free, c.is_test, c.prompt_tokens, c.answer_tokens, c.cost_nano,
  c.data_nano, c.curation_nano, c.developer_nano, c.platform_nano, c.owner_nano, c.started_at, c.finished_at
FROM (SELECT id, buyer_id, key_id, model_id, version_id, price_list_id, endpoint, status, error_code, streamed, free,
        false AS is_test, prompt_tokens, answer_tokens, cost_nano, data_nano, curation_nano, developer_nano,
        platform_nano, owner_nano, started_at, finished_at FROM marketplace_call
      UNION ALL
      SELECT id, buyer_id, key_id, model_id, version_id, price_list_id, endpoint, status, error_code, streamed, false,
        true, prompt_tokens, answer_tokens, cost_nano, data_nano, curation_nano, developer_nano, platform_nano,
        owner_nano, started_at, finished_at FROM marketplace_testcall) c
JOIN marketplace_modelversion v ON v.id = c.version_id
JOIN marketplace_listedmodel m ON m.id = c.model_id
JOIN accounts_user u ON u.id = m.owner_id
JOIN marketplace_pricelist p ON p.id = c.price_list_id
LEFT JOIN marketplace_apikey k ON k.id = c.key_id;

-- Who may see what a wallet paid with everybody's keys.
CREATE VIEW gateway_wallet_owners AS
SELECT w.account_id, m.user_id FROM marketplace_sharedwallet w JOIN marketplace_walletmember m ON m.wallet_id = w.id
WHERE m.role = 'owner' AND w.closed_at IS NULL;

-- The free calls that are taken today (UTC), by running calls too.
CREATE VIEW gateway_free_calls AS
SELECT f.buyer_id, f.model_id, f.number FROM marketplace_freecall f
WHERE f.day = (now() AT TIME ZONE 'UTC')::date;

CREATE VIEW gateway_balances AS
SELECT a.code AS account, a.base_nano + p.credited_nano - s.debited_nano - s.held_nano AS available_nano, s.held_nano
FROM ledger_account a
JOIN ledger_spend s ON s.account_id = a.id
JOIN ledger_position p ON p.account_id = a.id;

-- reverse:
DROP VIEW gateway_balances, gateway_free_calls, gateway_wallet_owners, gateway_calls, gateway_passages, gateway_sources, gateway_withdrawn,
  gateway_accesses, gateway_keys, gateway_prices, gateway_models;
