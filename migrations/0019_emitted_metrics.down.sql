DROP TABLE emitted_metrics;
