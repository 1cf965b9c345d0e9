-- name: find
SELECT response FROM operator_requests
WHERE operator_id = %(operator_id)s AND request_id = %(request_id)s

-- name: insert
INSERT INTO operator_requests (operator_id, request_id, operation, received_at, response)
VALUES (%(operator_id)s, %(request_id)s, %(operation)s, %(received_at)s, %(response)s)
