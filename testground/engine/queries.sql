-- name: insert
INSERT INTO tasks (id, state, priority, created, document)
VALUES (:id, :state, :priority, :created, :document);

-- name: update
UPDATE tasks SET state = :state, document = :document WHERE id = :id;

-- name: get
SELECT id, document FROM tasks WHERE id = :id;

-- name: newest
SELECT id FROM tasks ORDER BY created DESC LIMIT 100;

-- name: delete
DELETE FROM tasks WHERE id = :id;

-- name: waiting
SELECT id, document FROM tasks WHERE state = 'scheduled' ORDER BY priority DESC, created, id;

-- name: count_waiting
SELECT count(*) FROM tasks WHERE state = 'scheduled';

-- name: waiting_of_branch
SELECT id, document FROM tasks
WHERE state = 'scheduled'
  AND CASE
        WHEN json_valid(document) THEN json_extract(document, '$.type') = 'run'
          AND json_extract(document, '$.created_by.repo') = :repo
          AND json_extract(document, '$.created_by.branch') = :branch
      END;

-- name: begin
BEGIN IMMEDIATE;

-- name: commit
COMMIT;

-- name: in_state
SELECT id, document FROM tasks WHERE state = :state ORDER BY created DESC, id DESC;

-- name: between
SELECT id, document FROM tasks
WHERE state IN (SELECT value FROM json_each(:states)) AND created >= :lower AND created < :upper
ORDER BY created DESC, id DESC;

-- name: runs_since
SELECT
  id,
  json_extract(document, '$.runner'),
  coalesce(json_extract(document, '$.composition.global.plan'), ''),
  coalesce(json_extract(document, '$.composition.global.case'), '')
FROM (SELECT id, created, CASE WHEN json_valid(document) THEN document ELSE '{}' END AS document FROM tasks)
WHERE created >= :moment
  AND json_extract(document, '$.type') = 'run';
