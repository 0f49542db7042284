-- Keys, indexes and views come after the rows: checking them once is faster than row by row.
ALTER TABLE countries ADD PRIMARY KEY (code);
ALTER TABLE customers ADD PRIMARY KEY (id), ADD UNIQUE (email),
    ADD FOREIGN KEY (country) REFERENCES countries;
ALTER TABLE addresses ADD PRIMARY KEY (id), ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE categories ADD PRIMARY KEY (id), ADD FOREIGN KEY (parent_id) REFERENCES categories;
ALTER TABLE products ADD PRIMARY KEY (id), ADD UNIQUE (sku), ADD CHECK (net_price > 0),
    ADD FOREIGN KEY (category_id) REFERENCES categories;
ALTER TABLE brochures ADD PRIMARY KEY (id), ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE price_history ADD PRIMARY KEY (product_id, valid),
    ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE coupons ADD PRIMARY KEY (code), ADD CHECK (percent BETWEEN 1 AND 90);
ALTER TABLE orders ADD PRIMARY KEY (id), ADD UNIQUE (invoice_number),
    ADD FOREIGN KEY (customer_id) REFERENCES customers,
    ADD FOREIGN KEY (address_id) REFERENCES addresses;
ALTER TABLE order_items ADD PRIMARY KEY (order_id, line), ADD CHECK (quantity > 0),
    ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE,
    ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE payments ADD PRIMARY KEY (id), ADD FOREIGN KEY (order_id) REFERENCES orders;
ALTER TABLE reviews ADD PRIMARY KEY (id), ADD CHECK (stars BETWEEN 1 AND 5),
    ADD FOREIGN KEY (product_id) REFERENCES products,
    ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE warehouse.sites ADD PRIMARY KEY (id);
ALTER TABLE warehouse.inventory ADD PRIMARY KEY (site_id, product_id),
    ADD FOREIGN KEY (site_id) REFERENCES warehouse.sites,
    ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE warehouse.shipments ADD PRIMARY KEY (id),
    ADD FOREIGN KEY (order_id) REFERENCES orders,
    ADD FOREIGN KEY (site_id) REFERENCES warehouse.sites;

CREATE INDEX orders_by_customer ON orders (customer_id, placed_at DESC);
CREATE INDEX orders_unshipped ON orders (placed_at) WHERE status IN ('placed', 'paid');
CREATE INDEX products_by_tag ON products USING gin (tags);
CREATE INDEX reviews_of_product ON reviews (product_id);
CREATE INDEX events_by_time ON events (at);

CREATE VIEW order_totals AS
SELECT o.id, o.status, o.placed_at, sum(i.line_total) AS total, count(*) AS lines
FROM orders o JOIN order_items i ON i.order_id = o.id
GROUP BY o.id;

CREATE MATERIALIZED VIEW monthly_revenue AS
SELECT date_trunc('month', placed_at AT TIME ZONE 'UTC')::date AS month, sum(total) AS revenue,
    count(*) AS orders
FROM order_totals WHERE status >= 'paid'
GROUP BY 1;
CREATE UNIQUE INDEX ON monthly_revenue (month);

CREATE FUNCTION refuse_negative_stock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.on_hand < 0 THEN
        RAISE EXCEPTION 'stock of product % at site % would be negative', NEW.product_id, NEW.site_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER stock_is_never_negative BEFORE UPDATE ON warehouse.inventory
    FOR EACH ROW EXECUTE FUNCTION refuse_negative_stock();
