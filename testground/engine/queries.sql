-- name: insert
INSERT INTO tasks (id, state, priority, created, document)
VALUES (:id, :state, :priority, :created, :document);

-- name: update
UPDATE tasks SET state = :state, document = :document WHERE id = :id;

-- name: get
SELECT document FROM tasks WHERE id = :id;

-- name: delete
DELETE FROM tasks WHERE id = :id;

-- name: next
SELECT document FROM tasks WHERE state = 'scheduled' ORDER BY priority DESC, created, id LIMIT 1;

-- name: count_waiting
SELECT count(*) FROM tasks WHERE state = 'scheduled';

-- name: in_state
SELECT document FROM tasks WHERE state = :state ORDER BY created DESC, id DESC;

-- name: between
SELECT document FROM tasks
WHERE state IN (SELECT value FROM json_each(:states)) AND created >= :lower AND created < :upper
ORDER BY created DESC, id DESC;
