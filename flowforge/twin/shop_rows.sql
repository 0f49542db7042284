-- Every value follows from its row's number, so each load is the same to the byte.
INSERT INTO countries VALUES
    ('DE', 'Deutschland', 0.190), ('AT', 'Österreich', 0.200), ('CH', 'Schweiz', 0.081),
    ('FR', 'France', 0.200), ('ES', 'España', 0.210), ('PL', 'Polska', 0.230),
    ('CZ', 'Česko', 0.210), ('GR', 'Ελλάδα', 0.240), ('UA', 'Україна', 0.200),
    ('JP', '日本', 0.100), ('TR', 'Türkiye', 0.200), ('IS', 'Ísland', 0.240);

INSERT INTO customers (email, full_name, country, preferences, joined_at, marketing)
SELECT lower(format('customer%s@%s', i, (ARRAY['example.com', 'example.org', 'example.net'])[1 + i % 3])),
    (ARRAY['Anna', 'José', 'Zoë', 'Łukasz', 'Nikos', 'Олена', '花子', 'Björk', 'Ayşe', 'Max', 'Inès', 'Jürgen'])[1 + i % 12]
        || ' ' ||
    (ARRAY['Müller', 'García', 'Novák', 'Kowalska', 'Παππάς', 'Шевченко', '佐藤', 'O''Brien', 'Çelik', 'von der Leyen', 'Dupré'])[1 + i * 7 % 11],
    (ARRAY['DE', 'AT', 'CH', 'FR', 'ES', 'PL', 'CZ', 'GR', 'UA', 'JP', 'TR', 'IS'])[1 + i % 12],
    jsonb_build_object('newsletter', i % 4 = 0, 'language', (ARRAY['de', 'en', 'fr'])[1 + i % 3]),
    timestamptz '2024-01-01Z' + i * interval '173 minutes', i % 4 = 0
FROM generate_series(1, 6000) i;

INSERT INTO addresses (customer_id, street, city, postcode, is_default)
SELECT 1 + (i - 1) % 6000,
    (ARRAY['Hauptstraße', 'Rue de l''Église', 'Długa', 'Νέα Οδός', 'Calle Mayor'])[1 + i % 5] || ' ' || 1 + i % 180,
    (ARRAY['München', 'Besançon', 'Gdańsk', 'Αθήνα', 'Málaga', 'Zürich', '東京'])[1 + i % 7],
    CASE WHEN i % 50 <> 0 THEN lpad((i * 37 % 99999)::text, 5, '0') END, i <= 6000
FROM generate_series(1, 7200) i;

INSERT INTO categories
SELECT i, CASE WHEN i > 6 THEN 1 + i % 6 END,
    (ARRAY['Kitchen', 'Garden', 'Books', 'Toys', 'Tools', 'Bikes'])[1 + (i - 1) % 6]
        || CASE WHEN i > 6 THEN ' / ' || chr(64 + i - 6) ELSE '' END
FROM generate_series(1, 24) i;

INSERT INTO products (sku, name, category_id, net_price, tags, weight_grams)
SELECT format('SKU-%s', lpad(i::text, 6, '0')),
    (ARRAY['Small', 'Sturdy', 'Folding', 'Crème', 'Blue', '“Classic”'])[1 + i % 6] || ' ' ||
    (ARRAY['kettle', 'spade', 'atlas', 'puzzle', 'wrench', 'bell', 'café set'])[1 + i % 7] || ' ' || i,
    7 + i % 18, round(1.99 + (i * 7919 % 30000) / 100.0, 2),
    ARRAY['size:' || i % 5, (ARRAY['new', 'sale', 'with "quotes"', 'semi;colon'])[1 + i % 4]],
    nullif(i * 13 % 5000, 0)
FROM generate_series(1, 1200) i;

INSERT INTO brochures
SELECT i, i, lo_from_bytea(700000 + i, decode(string_agg(md5(format('%s/%s', i, block)), '' ORDER BY block), 'hex'))
FROM generate_series(1, 2) i, generate_series(1, 4000) block
GROUP BY i;

INSERT INTO price_history
SELECT 1 + (i - 1) % 1200,
    CASE WHEN i <= 1200 THEN daterange('2024-01-01', '2025-06-01') ELSE daterange('2025-06-01', NULL) END,
    round(1.49 + (i * 104729 % 30000) / 100.0, 2)
FROM generate_series(1, 2400) i;

INSERT INTO orders (customer_id, address_id, status, invoice_number, placed_at, note)
SELECT 1 + i * 31 % 6000, 1 + i * 31 % 6000,
    (enum_range(NULL::order_status))[1 + i * 5 % 6],
    CASE WHEN i * 5 % 6 > 1 THEN nextval('invoice_numbers') END,
    timestamptz '2025-09-01Z' + i * interval '41 minutes',
    CASE i % 40
        WHEN 0 THEN E'Leave it with the neighbour,\nsecond floor\ttop bell'
        WHEN 1 THEN '\. is not the end'
        WHEN 2 THEN ''
        WHEN 3 THEN 'Grüße 🎁 für Zoë'
    END
FROM generate_series(1, 9000) i;

INSERT INTO order_items (order_id, line, product_id, quantity, unit_price)
SELECT o, line, 1 + (o * 17 + line * 211) % 1200, 1 + (o + line) % 4,
    round(1.99 + ((o * 17 + line * 211) % 1200 * 7919 % 30000) / 100.0, 2)
FROM generate_series(1, 9000) o, generate_series(1, 4) line
WHERE line <= 1 + o % 3;

INSERT INTO payments
SELECT md5('payment' || id)::uuid, id, 10 + id % 900 + 0.5,
    (ARRAY['card', 'invoice', 'transfer', 'voucher'])[1 + id % 4], placed_at + interval '9 minutes'
FROM orders WHERE status >= 'paid';

INSERT INTO reviews (product_id, customer_id, stars, body, written_at)
SELECT 1 + i * 53 % 1200, 1 + i * 29 % 6000, 1 + i * 3 % 5,
    CASE WHEN i % 9 <> 0 THEN repeat(
        (ARRAY['Does what it should. ', 'Schön, aber laut. ', 'Très joli ! ', '良い。', 'Broke after a week. ', 'Χρήσιμο. '])[1 + i % 6],
        1 + i % 5) END,
    timestamptz '2025-10-01Z' + i * interval '53 minutes'
FROM generate_series(1, 5000) i;

INSERT INTO warehouse.sites VALUES
    (1, 'Köln', '(50.94,6.96)'), (2, 'Wrocław', '(51.11,17.03)'), (3, 'Lyon', '(45.76,4.84)');

INSERT INTO warehouse.inventory
SELECT site, product, product * 31 % 400, product % 7, timestamptz '2026-02-01Z' + product * interval '1 minute'
FROM generate_series(1, 3) site, generate_series(1, 1200) product;

INSERT INTO warehouse.shipments (order_id, site_id, tracking, weight_kg, handed_over_at)
SELECT id, 1 + id % 3, upper(md5('parcel' || id)), (id % 97) / 7.0, placed_at + interval '31 hours'
FROM orders WHERE status >= 'shipped';

INSERT INTO events
SELECT timestamptz '2026-01-01Z' + i * interval '8 minutes',
    (ARRAY['viewed', 'searched', 'added to basket', 'checked out', 'logged in'])[1 + i % 5],
    nullif(i * 7 % 6001, 0),
    jsonb_build_object('session', md5('session' || i / 9), 'milliseconds', i * 13 % 900, 'path', '/p/' || i % 1200)
FROM generate_series(1, 17000) i;
