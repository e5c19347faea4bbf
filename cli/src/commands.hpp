// What each subcommand does, apart from how its arguments are read (main.cpp).
#pragma once

#include "output.hpp"
#include "settings.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace addrflow::cli {

struct Shell {
  Settings settings;
  Output output;
};

// Which line, who asks, under which key; shared by all commands that change a service.
struct Target {
  std::string tenant;
  std::string subscriber;
  std::string service = "internet";
  std::string
      key;  // empty: made, and printed on standard error, so that the same request can be repeated
  std::string actor;
  std::string reason;
  std::string username;
  std::string nas_ip;
  std::vector<std::string> families;  // empty: all that the line has
  bool dry_run = false;               // say what it would do, and do nothing
};

struct ProvisionArguments {
  std::string pool;
  std::string address;
  std::string plan;
  bool ipv6 = false;
  bool no_ipv4 = false;
  std::string ipv6_pool;
  std::string prefix;
  int pd_size = 0;
  std::string optional_family;
  std::string restrict_when;
  bool send_coa = false;
  bool skip_netbox = false;
  std::string on_coa_failure;
  std::string on_netbox_failure;
};

struct LiftArguments {  // deprovision, revoke
  bool no_disconnect = false;
  bool keep_space = false;
  bool skip_netbox = false;
  std::optional<std::int64_t> generation;
};

struct PoolArguments {
  std::string tenant;
  std::string name;
  std::string cidr;
  std::string domain = "default";
  std::int64_t vrf = 0;  // 0: what the domain has
  std::string gateway;
  std::vector<std::string> exclude;  // addresses or "first-last"
  std::string quarantine = "1h";
  std::string hold;  // empty: a day, or the longest lease
  std::string netbox_mode = "mirror";
  bool no_import = false;
  int delegate = 0;  // IPv6: what a line gets
  int shortest = 0;  // IPv6: set, and sizes may be mixed from here
  std::string group;
  int priority = 100;
  std::vector<std::string> nas;
  std::vector<std::string> grant;
  // Of the commands that change a pool:
  std::string space;
  bool drain = false;
  std::string actor;
  std::string reason;
};

struct PoolSetArguments {  // unset: left as it is
  std::string tenant;
  std::string name;
  std::optional<std::string> quarantine;
  std::optional<std::string> hold;
  std::optional<std::string> group;
  bool no_group = false;
  std::optional<int> priority;
  std::vector<std::string> grant;
  std::vector<std::string> revoke_grant;
  std::vector<std::string> nas;  // these and no other
  bool any_nas = false;
  std::optional<std::string> netbox_mode;
  std::optional<std::int64_t> vrf;
  bool no_import = false;
  std::string actor;
  std::string reason;
};

struct NetboxArguments {
  std::string tenant;
  std::string pool;
  std::string subscriber;
  std::string address;
  bool dry_run = false;
};

// What is not given stays as it is, or is the default of a new NAS.
struct NasArguments {
  std::string tenant;
  std::string name;
  std::optional<std::string> ip;
  std::optional<std::string> coa_host;
  std::optional<int> coa_port;
  std::optional<std::string> dialect;
  std::optional<std::string> secret;
  std::optional<std::string> identifier;
  std::optional<std::string> interim;
  std::optional<std::vector<std::string>> source_addresses;
  std::optional<std::string> next_secret;
  std::optional<double> rate;
  std::optional<int> window;
  std::optional<std::string> jitter;
  std::optional<std::string> group;
  std::optional<std::string> transport;
  std::optional<std::string> tls_ca;
  std::optional<std::string> tls_certificate;
  std::optional<std::string> tls_key;
  std::optional<std::string> tls_server_name;
  std::string actor;
  std::string reason;
};

struct MigrateArguments {
  std::string direction = "up";  // up, down, status, verify
  int steps = 0;                 // down: how many; 0: one
  int to = -1;                   // down: everything newer than this one
  bool dry_run = false;
  bool discard_new = false;
  std::string from;                // the schema with the platform's tables
  std::vector<std::string> pools;  // tenant/name=prefix
  std::vector<std::string> vrfs;   // tenant/name=id
  std::string grace = "168h";
};

struct WhoHeldArguments {
  std::string space;
  std::string at;
  std::string from;
  std::string to;
  std::string domain;
  std::string tenant;
  std::optional<int> port;
};

struct ListArguments {  // list, effect list
  std::string tenant;   // empty: all
  std::string subscriber;
  std::vector<std::string> states;  // of effects: their statuses
  std::string pool;
  std::string family;
  std::string system;
  std::string older_than;
  bool unconfirmed = false;
  int limit = 0;
  std::string after;
};

struct WorkflowArguments {  // workflow …, progress
  std::string id;           // empty: the composition of `target`
  Target target;
  std::string step;
};

// --- the world around ---------------------------------------------------------------------------
Exit run_worker(const Shell& shell);
Exit run_migrate(const Shell& shell, const MigrateArguments& arguments);
Exit run_setup(const Shell& shell);
Exit run_schedules(const Shell& shell, const std::string& action, const std::string& schedule_id);
Exit run_config(const Shell& shell);
// Histories as `temporal workflow show -o json` prints them, replayed with this program's
// workflows: what fails here would stand still after a deployment.
Exit run_replay(const Shell& shell, const std::vector<std::string>& files);

// --- the network --------------------------------------------------------------------------------
Exit run_tenant_add(const Shell& shell, const std::string& tenant);
// `mode` empty: only shown.
Exit run_profile(const Shell& shell, const Target& target, const std::string& mode);
Exit run_pool_add(const Shell& shell, const PoolArguments& arguments);
Exit run_pool_list(const Shell& shell, const PoolArguments& arguments);
Exit run_stats(const Shell& shell, const std::string& tenant);
Exit run_pool_show(const Shell& shell, const PoolArguments& arguments);
Exit run_pool_set(const Shell& shell, const PoolSetArguments& arguments);
Exit run_pool_drain(const Shell& shell, const PoolArguments& arguments, bool draining);
Exit run_pool_exclude(const Shell& shell, const PoolArguments& arguments);
Exit run_pool_shrink(const Shell& shell, const PoolArguments& arguments);
Exit run_pool_unblock(const Shell& shell, const PoolArguments& arguments);
Exit run_pool_end_quarantine(const Shell& shell, const PoolArguments& arguments);
Exit run_nas_add(const Shell& shell, const NasArguments& arguments);
Exit run_nas_remove(const Shell& shell, const NasArguments& arguments);
Exit run_nas_list(const Shell& shell, const std::string& tenant);
Exit run_nas_show(const Shell& shell, const std::string& tenant, const std::string& name);
// Asks the NAS to end a session that nobody has: any answer that its secret signed says that
// target, port and secret are right, and nothing is changed.
Exit run_nas_check(const Shell& shell, const std::string& tenant, const std::string& name);

// --- what kinds of NAS are known ----------------------------------------------------------------
Exit run_dialects_list(const Shell& shell);
Exit run_dialects_show(const Shell& shell, const std::string& name);
Exit run_dialects_check(const Shell& shell, const std::string& file);

// --- NetBox -------------------------------------------------------------------------------------
Exit run_netbox_setup(const Shell& shell);
Exit run_netbox_status(const Shell& shell);
Exit run_netbox_import(const Shell& shell, const NetboxArguments& arguments);
Exit run_netbox_sync(const Shell& shell, const NetboxArguments& arguments);
Exit run_netbox_catch_up(const Shell& shell);

// --- services -----------------------------------------------------------------------------------
Exit run_provision(const Shell& shell, Target target, const ProvisionArguments& arguments);
Exit run_deprovision(const Shell& shell, Target target, const LiftArguments& arguments);
Exit run_suspend(const Shell& shell, Target target, bool no_coa);
Exit run_reactivate(const Shell& shell, Target target, bool no_coa);
Exit run_allocate(const Shell& shell, Target target, const ProvisionArguments& arguments);
Exit run_activate(const Shell& shell, Target target, const ProvisionArguments& arguments);
Exit run_revoke(const Shell& shell, Target target, const LiftArguments& arguments);
Exit run_retry(const Shell& shell, Target target);
Exit run_adopt(const Shell& shell, Target target, const std::string& state);
Exit run_force_release(const Shell& shell, Target target);
Exit run_move(const Shell& shell, Target target, const LiftArguments& arguments);
Exit run_rebind(const Shell& shell, Target target, const LiftArguments& arguments);
Exit run_change_plan(const Shell& shell, Target target, const ProvisionArguments& arguments,
                     bool no_coa);
Exit run_readdress(const Shell& shell, Target target, const ProvisionArguments& arguments,
                   bool no_coa);
Exit run_status(const Shell& shell, const Target& target);

// --- evidence -----------------------------------------------------------------------------------
Exit run_audit(const Shell& shell);
Exit run_who_held(const Shell& shell, const WhoHeldArguments& arguments);
Exit run_holdings_prune(const Shell& shell, const std::string& older_than, bool dry_run);
// What the schedules do, by hand. Without a Temporal server nobody is woken, which it says.
Exit run_cleanup(const Shell& shell, const std::string& family, bool dry_run);
Exit run_catch_up(const Shell& shell, bool dry_run);
// Counts now, keeps it for the workers' /metrics as the schedules do, and prints the text.
Exit run_metrics(const Shell& shell, const std::string& family);
Exit run_reconcile_after_restore(const Shell& shell, const std::string& actor, bool dry_run);

// --- operators ----------------------------------------------------------------------------------
Exit run_list(const Shell& shell, const ListArguments& arguments);
Exit run_effect_list(const Shell& shell, const ListArguments& arguments);
Exit run_effect_show(const Shell& shell, std::int64_t id);
Exit run_effect_abandon(const Shell& shell, std::int64_t id, const Target& target);
Exit run_progress(const Shell& shell, const WorkflowArguments& arguments);
// `command` as the workflows name it: pause, resume, retry, skip, give_up.
Exit run_workflow(const Shell& shell, const std::string& command,
                  const WorkflowArguments& arguments);

}  // namespace addrflow::cli
