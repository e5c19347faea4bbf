-- What addrflow adds to FreeRADIUS' database. `addrflow setup` runs this, and it may be run by hand and repeated.

-- The newest transition of each service whose rows are here: an older one writes nothing any more.
create table if not exists addrflow_fence (
  tenant text not null,
  subscriber text not null,
  service text not null,
  number bigint not null,
  effect_id bigint not null default 0,
  changed timestamptz not null default clock_timestamp(),
  primary key (tenant, subscriber, service)
);

-- Which line a username belongs to, and which rows of it are ours: its plan's group, our Auth-Type := Reject.
create table if not exists addrflow_line (
  username text primary key,
  tenant text not null,
  subscriber text not null,
  service text not null,
  plan text not null default '',
  reject_id bigint,
  changed timestamptz not null default clock_timestamp()
);

create index if not exists addrflow_line_service on addrflow_line (tenant, subscriber, service);

-- What was ever handed out, and to whom last: a ledger that was restored to an earlier state asks here.
create table if not exists addrflow_handed (
  space inet not null,
  username text not null,
  changed timestamptz not null default clock_timestamp(),
  primary key (space, username)
);

-- The stock schema has no way to a user's, an address's or a NAS's accounting rows.
create index concurrently if not exists addrflow_radacct_open_user on radacct (username) where acctstoptime is null;
create index concurrently if not exists addrflow_radacct_open_address on radacct (framedipaddress) where acctstoptime is null;
create index concurrently if not exists addrflow_radacct_open_prefix on radacct (delegatedipv6prefix) where acctstoptime is null;
create index concurrently if not exists addrflow_radacct_stopped_user on radacct (username, acctstoptime);
create index concurrently if not exists addrflow_radacct_nas_update on radacct (nasipaddress, acctupdatetime);
create index concurrently if not exists addrflow_radacct_nas_stop on radacct (nasipaddress, acctstoptime);
create index concurrently if not exists addrflow_radacct_nas_start on radacct (nasipaddress, acctstarttime);

-- Who used an address or a prefix, long ago.
create index concurrently if not exists addrflow_radacct_address on radacct (framedipaddress, acctstarttime);
create index concurrently if not exists addrflow_radacct_delegated on radacct (delegatedipv6prefix, acctstarttime);
