-- What the body of each record was written as: by it a record that is damaged is told from one that says something else.
ALTER TABLE records ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;  -- CRC-32 of the body, begun with both halves of the key
UPDATE records SET crc = checksum(key, body);
