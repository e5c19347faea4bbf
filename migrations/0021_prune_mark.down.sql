DROP TABLE holdings_pruned;
