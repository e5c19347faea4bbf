// The `addrflow` command: reads the arguments, loads the settings, and calls what commands.hpp
// declares.

#include "commands.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>

#include <cstdlib>
#include <functional>
#include <memory>

namespace addrflow::cli {
namespace {

using Action = std::function<Exit(const Shell&)>;

// The arguments of all subcommands. CLI11 binds to them by address, so they live as long as the
// parser.
struct Arguments {
  Target target;
  ProvisionArguments provision;
  LiftArguments lift;
  PoolArguments pool;
  PoolSetArguments pool_set;
  NasArguments nas;
  std::string dialect;
  NetboxArguments netbox;
  MigrateArguments migrate;
  ListArguments list;
  WorkflowArguments workflow;
  std::int64_t effect_id = 0;
  std::string tenant;
  std::string ipv6_mode;
  std::string schedule_action = "list";
  std::string schedule_id;
  std::string state;
  std::vector<std::string> files;
  WhoHeldArguments who_held;
  std::string older_than;
  std::string family = "ipv4";
  bool dry_run = false;
  bool no_coa = false;
};

class CommandLine {
 public:
  CommandLine()
      : app_("Keeps every subscriber's address right in the ledger, NetBox, RADIUS and the BNG") {
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.option_defaults()->always_capture_default();
    app_.add_option("--config", config_file_,
                    "TOML file with the settings (see `addrflow config`)");
    app_.add_flag("--json", json_, "answer as JSON on standard output");
    app_.footer(
        "Exit codes: 0 done and confirmed, 1 refused or failed (audit: violated), 2 wrong usage "
        "or\n"
        "configuration, 3 no answer: it may have happened, ask again with the same --key (audit: "
        "could\n"
        "not check), 4 done, but a NAS or NetBox has not confirmed yet and is pursued.");
    add_platform();
    add_evidence();
    add_network();
    add_netbox();
    add_services();
    add_changes();
    add_operators();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      const int code = app_.exit(error);
      return code == 0 ? 0 : static_cast<int>(Exit::kUsage);
    }
    Shell shell;
    shell.output.json = json_;
    auto settings = load_settings(config_file_, [](const char* name) { return std::getenv(name); });
    if (!settings) {
      return static_cast<int>(
          shell.output.fail(Exit::kUsage, "bad_configuration", settings.error()));
    }
    shell.settings = *std::move(settings);
    spdlog::set_default_logger(spdlog::stderr_color_mt("addrflow"));
    spdlog::set_level(spdlog::level::from_str(shell.settings.log.level));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
    return static_cast<int>(action_(shell));
  }

 private:
  CLI::App* command(const std::string& name, const std::string& help, Action action) {
    CLI::App* subcommand = app_.add_subcommand(name, help);
    subcommand->callback([this, action = std::move(action)] { action_ = action; });
    return subcommand;
  }

  void add_platform() {
    Arguments& a = arguments_;
    command("worker", "Run the workflows and activities until SIGINT or SIGTERM", run_worker);

    CLI::App* migrate = command("migrate", "Bring the ledger's tables up to date",
                                [&a](const Shell& shell) { return run_migrate(shell, a.migrate); });
    migrate->add_option("direction", a.migrate.direction, "up, down, status or verify")
        ->check(CLI::IsMember({"up", "down", "status", "verify"}));
    migrate->add_option("--steps", a.migrate.steps, "down: how many migrations to undo");
    migrate->add_option("--to", a.migrate.to, "down: undo everything newer than this migration");
    migrate->add_flag("--discard-new", a.migrate.discard_new,
                      "down: lose bindings that the platform's tables do not know");
    migrate->add_option("--from", a.migrate.from,
                        "up: the schema with the platform's tables (default: the ledger's)");
    migrate->add_option("--pool", a.migrate.pools,
                        "up: TENANT/NAME=PREFIX of a pool that the platform's tables leave open");
    migrate->add_option("--vrf", a.migrate.vrfs,
                        "up: TENANT/NAME=ID of a pool whose objects are in this NetBox VRF");
    migrate->add_option("--grace", a.migrate.grace,
                        "up: how long imported bindings do not count as leaks");
    migrate->add_flag("--dry-run", a.migrate.dry_run, "say what would be done");

    command("setup", "Register search attributes, AAA tables and NetBox fields; may be repeated",
            run_setup);

    CLI::App* schedules =
        command("schedules", "The daily and periodic workflows", [&a](const Shell& shell) {
          return run_schedules(shell, a.schedule_action, a.schedule_id);
        });
    schedules
        ->add_option("action", a.schedule_action, "apply, list, trigger, pause, unpause or delete")
        ->check(CLI::IsMember({"apply", "list", "trigger", "pause", "unpause", "delete"}));
    schedules->add_option("id", a.schedule_id, "which one, except for apply and list");

    command("replay", "Replay exported histories: would they go on with this version?",
            [&a](const Shell& shell) { return run_replay(shell, a.files); })
        ->add_option("files", a.files, "JSON of `temporal workflow show -o json`")
        ->required();
    command("config", "Print every setting, its source and its value", run_config);
  }

  void add_evidence() {
    Arguments& a = arguments_;
    command(
        "audit",
        "Check the invariants in ledger, AAA and NetBox: 0 clean, 1 violated, 3 could not check",
        run_audit);
    CLI::App* cleanup = command("cleanup", "The daily cleanup by hand", [&a](const Shell& shell) {
      return run_cleanup(shell, a.family, a.dry_run);
    });
    cleanup->add_option("--family", a.family, "ipv4 or ipv6_pd")
        ->check(CLI::IsMember({"ipv4", "ipv6_pd"}));
    cleanup->add_flag("--dry-run", a.dry_run, "only count");
    command("catch-up", "Wake lines whose effects are unconfirmed or whose gate is past due",
            [&a](const Shell& shell) { return run_catch_up(shell, a.dry_run); })
        ->add_flag("--dry-run", a.dry_run, "only count");

    command("metrics", "Count states, pools and leaks now, as the workers' /metrics shows them",
            [&a](const Shell& shell) { return run_metrics(shell, a.family); })
        ->add_option("--family", a.family, "ipv4 or ipv6_pd")
        ->check(CLI::IsMember({"ipv4", "ipv6_pd"}));

    CLI::App* ledger = app_.add_subcommand("ledger", "The ledger itself")->require_subcommand(1);
    CLI::App* reconcile = ledger->add_subcommand(
        "reconcile-after-restore", "Let a ledger that was restored from a backup go on safely");
    reconcile->add_option("--actor", a.target.actor, "who does this")->envname("USER");
    reconcile->add_flag("--dry-run", a.dry_run, "say what would be done");
    reconcile->callback([this, &a] {
      action_ = [&a](const Shell& s) {
        return run_reconcile_after_restore(s, a.target.actor, a.dry_run);
      };
    });

    CLI::App* who_held =
        command("who-held", "Who held an address or prefix, when, and what accounting saw of it",
                [&a](const Shell& shell) { return run_who_held(shell, a.who_held); });
    who_held->add_option("space", a.who_held.space, "address, or prefix: what overlaps it")
        ->required();
    who_held->add_option("--at", a.who_held.at, "moment, RFC 3339 with offset; default: now");
    who_held->add_option("--from", a.who_held.from, "from this moment on");
    who_held->add_option("--to", a.who_held.to, "up to this moment");
    who_held->add_option("--domain", a.who_held.domain, "routing domain, where several have it");
    who_held->add_option("--tenant", a.who_held.tenant, "only this tenant's holdings");
    who_held->add_option("--port", a.who_held.port, "of shared (CGNAT) space");

    CLI::App* holdings =
        app_.add_subcommand("holdings", "The record of who held what")->require_subcommand(1);
    CLI::App* prune = holdings->add_subcommand(
        "prune", "Delete holdings that ended long ago (default: ledger.keep_holdings, all kept)");
    prune->add_option("--older-than", a.older_than, "for instance 730d");
    prune->add_flag("--dry-run", a.dry_run, "say what would be done");
    prune->callback([this, &a] {
      action_ = [&a](const Shell& s) { return run_holdings_prune(s, a.older_than, a.dry_run); };
    });
  }

  void add_network() {
    Arguments& a = arguments_;
    CLI::App* tenant = app_.add_subcommand("tenant", "Tenants")->require_subcommand(1);
    CLI::App* tenant_add = tenant->add_subcommand("add", "Add a tenant; may be repeated");
    tenant_add->add_option("tenant", a.tenant, "tenant id")->required();
    tenant_add->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_tenant_add(shell, a.tenant); };
    });

    CLI::App* profile = app_.add_subcommand("profile", "What a subscriber may have of IPv6");
    profile->add_option("subscriber", a.target.subscriber, "subscriber id")->required();
    profile->add_option("--tenant", a.target.tenant, "whose subscriber")->required();
    profile->add_option("--ipv6-mode", a.ipv6_mode,
                        "from now on: none, slaac, stateful, pd or dual_stack; a delegated prefix"
                        " needs one of the last two");
    profile->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_profile(shell, a.target, a.ipv6_mode); };
    });

    CLI::App* pool = app_.add_subcommand("pool", "Address pools")->require_subcommand(1);
    CLI::App* pool_add = pool->add_subcommand("add", "Add a pool; repeating it changes nothing");
    pool_add->add_option("name", a.pool.name, "name of the pool")->required();
    pool_add->add_option("--tenant", a.pool.tenant, "whose")->required();
    pool_add->add_option("--cidr", a.pool.cidr, "e.g. 203.0.113.0/24 or 2001:db8::/32")->required();
    pool_add->add_option("--domain", a.pool.domain, "routing domain: space means one thing in it");
    pool_add
        ->add_option("--vrf", a.pool.vrf,
                     "NetBox's number of that domain's VRF; 0: the one it has, else none")
        ->check(CLI::NonNegativeNumber);
    pool_add->add_option("--gateway", a.pool.gateway, "never handed out");
    pool_add->add_option("--exclude", a.pool.exclude, "address or first-last; may be repeated");
    pool_add->add_option("--quarantine", a.pool.quarantine, "rest before another holder");
    pool_add->add_option("--hold", a.pool.hold,
                         "how long space is held without evidence: a day, or the "
                         "longest lease; not less than that");
    pool_add->add_option("--netbox", a.pool.netbox_mode, "mirror, authoritative or off")
        ->check(CLI::IsMember({"mirror", "authoritative", "off"}));
    pool_add->callback(
        [this, &a] { action_ = [&a](const Shell& shell) { return run_pool_add(shell, a.pool); }; });

    pool_add->add_option("--delegate", a.pool.delegate, "IPv6: length that a line gets; 0: 56");
    pool_add->add_option("--shortest", a.pool.shortest, "IPv6: allow mixed lengths from this one");
    pool_add->add_option("--group", a.pool.group, "pools of one group stand in for each other");
    pool_add->add_option("--priority", a.pool.priority, "in its group, the lowest first");
    pool_add->add_option("--nas", a.pool.nas, "a site's own pool: only for this NAS; repeatable");
    pool_add->add_option("--grant", a.pool.grant, "another tenant that may use it; repeatable");
    pool_add->add_flag("--no-import", a.pool.no_import,
                       "start it without asking what NetBox holds in it");
    add_pool_changes(*pool);
    add_pool_set(*pool);

    CLI::App* stats = app_.add_subcommand(
        "stats", "How many lines are in which state, of each family, and what of it NetBox knows");
    stats->add_option("--tenant", a.tenant, "of this tenant only");
    stats->callback(
        [this, &a] { action_ = [&a](const Shell& shell) { return run_stats(shell, a.tenant); }; });

    CLI::App* nas = app_.add_subcommand("nas", "Network access servers")->require_subcommand(1);
    CLI::App* nas_add =
        nas->add_subcommand("add", "Add a NAS, or change of a known one what is given");
    nas_add->add_option("name", a.nas.name, "name of the NAS")->required();
    nas_add->add_option("--tenant", a.nas.tenant, "whose")->required();
    nas_add->add_option("--ip", a.nas.ip,
                        "NAS-IP-Address, as accounting shows it; needed for a new NAS");
    nas_add->add_option("--coa-host", a.nas.coa_host, "where CoA goes; default: --ip");
    nas_add->add_option("--coa-port", a.nas.coa_port, "default: the dialect's; RadSec: 2083")
        ->check(CLI::Range(1, 65535));
    nas_add->add_option("--dialect", a.nas.dialect,
                        "what it understands: `addrflow dialects list`");
    nas_add->add_option("--secret", a.nas.secret,
                        "reference: env:NAME or file:/path; none with RadSec");
    nas_add->add_option("--next-secret", a.nas.next_secret,
                        "reference to the secret that follows, while it is changed");
    nas_add->add_option("--source", a.nas.source_addresses,
                        "other address under which accounting shows it; may be repeated");
    nas_add->add_option("--rate", a.nas.rate, "requests a second; 0: as configured");
    nas_add->add_option("--window", a.nas.window, "outstanding requests; 0: as configured")
        ->check(CLI::Range(0, 64));
    nas_add->add_option("--jitter", a.nas.jitter, "a burst begins at random within this time");
    nas_add->add_option("--group", a.nas.group,
                        "redundancy group: when one is silent, the others are asked");
    nas_add->add_option("--transport", a.nas.transport, "udp or radsec (RADIUS over TLS)")
        ->check(CLI::IsMember({"udp", "radsec"}));
    nas_add->add_option("--tls-ca", a.nas.tls_ca, "file: who signed the NAS's certificate");
    nas_add->add_option("--tls-certificate", a.nas.tls_certificate, "file: our certificate");
    nas_add->add_option("--tls-key", a.nas.tls_key, "file: its key");
    nas_add->add_option("--tls-server-name", a.nas.tls_server_name,
                        "name in the NAS's certificate; default: where CoA goes");
    nas_add->add_option("--identifier", a.nas.identifier, "NAS-Identifier, where it is needed");
    nas_add->add_option("--interim", a.nas.interim, "its accounting interim interval");
    nas_add->callback(
        [this, &a] { action_ = [&a](const Shell& shell) { return run_nas_add(shell, a.nas); }; });
    CLI::App* nas_remove = nas->add_subcommand("remove", "Forget a NAS that no line hangs on");
    nas_remove->add_option("name", a.nas.name, "name of the NAS")->required();
    nas_remove->add_option("--tenant", a.nas.tenant, "whose")->required();
    nas_remove->add_option("--ip", a.nas.ip, "which, where several have that name");
    nas_remove->add_option("--actor", a.nas.actor, "who does this")->envname("USER");
    nas_remove->add_option("--reason", a.nas.reason, "why, for the record");
    nas_remove->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_nas_remove(shell, a.nas); };
    });
    CLI::App* nas_list = nas->add_subcommand("list", "All NAS of a tenant");
    nas_list->add_option("--tenant", a.nas.tenant, "whose")->required();
    nas_list->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_nas_list(shell, a.nas.tenant); };
    });
    CLI::App* nas_show = nas->add_subcommand("show", "One NAS with all its settings");
    nas_show->add_option("name", a.nas.name, "name of the NAS")->required();
    nas_show->add_option("--tenant", a.nas.tenant, "whose")->required();
    nas_show->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_nas_show(shell, a.nas.tenant, a.nas.name); };
    });
    CLI::App* nas_check = nas->add_subcommand(
        "check", "Ask the NAS to end a session that nobody has: does it answer, by our secret?");
    nas_check->add_option("name", a.nas.name, "name of the NAS")->required();
    nas_check->add_option("--tenant", a.nas.tenant, "whose")->required();
    nas_check->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_nas_check(shell, a.nas.tenant, a.nas.name); };
    });
    add_dialects();
  }

  void add_dialects() {
    Arguments& a = arguments_;
    CLI::App* dialects =
        app_.add_subcommand("dialects", "What kinds of NAS are known")->require_subcommand(1);
    dialects->add_subcommand("list", "All of them")->callback([this] {
      action_ = [](const Shell& shell) { return run_dialects_list(shell); };
    });
    CLI::App* show = dialects->add_subcommand("show", "The file of one dialect");
    show->add_option("name", a.dialect, "name of the dialect")->required();
    show->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_dialects_show(shell, a.dialect); };
    });
    CLI::App* check = dialects->add_subcommand("check", "Is this file a dialect that can be used?");
    check->add_option("file", a.dialect, "the TOML file")->required();
    check->callback([this, &a] {
      action_ = [&a](const Shell& shell) { return run_dialects_check(shell, a.dialect); };
    });
  }

  CLI::App* pool_command(CLI::App& pool, const std::string& name, const std::string& help,
                         Action action) {
    CLI::App* subcommand = pool.add_subcommand(name, help);
    subcommand->callback([this, action] { action_ = action; });
    return subcommand;
  }

  void add_pool_set(CLI::App& pool) {
    PoolSetArguments& a = arguments_.pool_set;
    CLI::App* set = pool_command(pool, "set", "Change what a pool was made with",
                                 [&a](const Shell& s) { return run_pool_set(s, a); });
    set->add_option("name", a.name, "name or id of the pool")->required();
    set->add_option("--tenant", a.tenant, "whose")->required();
    set->add_option("--actor", a.actor, "who does it, for the record")->required();
    set->add_option("--reason", a.reason, "why, for the record")->required();
    set->add_option("--quarantine", a.quarantine, "of what comes back from now on");
    set->add_option("--hold", a.hold, "how long space is held without evidence");
    CLI::Option* group = set->add_option("--group", a.group, "its group from now on");
    set->add_flag("--no-group", a.no_group, "of no group any more")->excludes(group);
    set->add_option("--priority", a.priority, "in its group, the lowest first");
    set->add_option("--grant", a.grant, "a tenant that may use it; repeatable");
    set->add_option("--revoke-grant", a.revoke_grant,
                    "a tenant that may not any more; refused while it holds space");
    CLI::Option* nas =
        set->add_option("--nas", a.nas, "only for this NAS; repeatable: these and no other");
    set->add_flag("--any-nas", a.any_nas, "for every NAS again")->excludes(nas);
    set->add_option("--netbox", a.netbox_mode, "mirror, authoritative or off")
        ->check(CLI::IsMember({"mirror", "authoritative", "off"}));
    set->add_option("--vrf", a.vrf,
                    "NetBox's number of its routing domain's VRF; 0: none. Only while no line of "
                    "the domain was told to NetBox")
        ->check(CLI::NonNegativeNumber);
    set->add_flag("--no-import", a.no_import, "start it without asking what NetBox holds in it");
  }

  void add_pool_changes(CLI::App& pool) {
    PoolArguments& a = arguments_.pool;
    pool_command(pool, "list", "Pools with their last counted usage", [&a](const Shell& shell) {
      return run_pool_list(shell, a);
    })->add_option("--tenant", a.tenant, "whose; default: all");
    const auto named = [&](const std::string& name, const std::string& help, Action action) {
      CLI::App* subcommand = pool_command(pool, name, help, std::move(action));
      subcommand->add_option("name", a.name, "name or id of the pool")->required();
      subcommand->add_option("--tenant", a.tenant, "whose")->required();
      return subcommand;
    };
    const auto changing = [&](const std::string& name, const std::string& help, Action action) {
      CLI::App* subcommand = named(name, help, std::move(action));
      subcommand->add_option("--actor", a.actor, "who does it, for the record")->required();
      subcommand->add_option("--reason", a.reason, "why, for the record")->required();
      return subcommand;
    };
    named("show", "One pool, counted now", [&a](const Shell& s) { return run_pool_show(s, a); });
    changing("drain", "Hand out nothing new; what is held stays",
             [&a](const Shell& s) { return run_pool_drain(s, a, true); });
    changing("undrain", "Hand out again",
             [&a](const Shell& s) { return run_pool_drain(s, a, false); });
    CLI::App* exclude = changing("exclude", "Keep space from being handed out",
                                 [&a](const Shell& s) { return run_pool_exclude(s, a); });
    exclude->add_option("space", a.space, "address, prefix or first-last")->required();
    CLI::App* shrink = changing("shrink", "Keep only a part of the pool",
                                [&a](const Shell& s) { return run_pool_shrink(s, a); });
    shrink->add_option("prefix", a.space, "what remains")->required();
    for (CLI::App* subcommand : {exclude, shrink})
      subcommand->add_flag("--drain", a.drain, "wait for the lines that hold it, do not refuse");
    changing("unblock", "Give back what was excluded, or blocked by NetBox or a restore",
             [&a](const Shell& s) { return run_pool_unblock(s, a); })
        ->add_option("space", a.space, "address, prefix or first-last")
        ->required();
    changing("end-quarantine", "Let space be requested before its quarantine is over",
             [&a](const Shell& s) { return run_pool_end_quarantine(s, a); })
        ->add_option("space", a.space, "address or prefix")
        ->required();
  }

  void add_netbox() {
    Arguments& a = arguments_;
    CLI::App* netbox = app_.add_subcommand("netbox", "NetBox")->require_subcommand(1);
    const auto add = [this, netbox](const char* name, const char* help, Action action) {
      CLI::App* subcommand = netbox->add_subcommand(name, help);
      subcommand->callback([this, action = std::move(action)] { action_ = action; });
      return subcommand;
    };
    add("setup", "Make the custom fields, choices and tag; may be repeated", run_netbox_setup);
    add("status", "NetBox's version, the workers' breakers, and what is not confirmed",
        run_netbox_status);
    CLI::App* import = add("import", "Block what NetBox holds in a pool, and start the pool",
                           [&a](const Shell& shell) { return run_netbox_import(shell, a.netbox); });
    import->add_option("pool", a.netbox.pool, "name or id of the pool")->required();
    CLI::App* sync = add("sync", "Say where NetBox differs, and send it again (the catch-up does)",
                         [&a](const Shell& shell) { return run_netbox_sync(shell, a.netbox); });
    add("catch-up", "Send NetBox what it missed, as the schedule does", run_netbox_catch_up);
    sync->add_option("--pool", a.netbox.pool, "of this pool");
    sync->add_option("--subscriber", a.netbox.subscriber, "of this subscriber");
    sync->add_option("--address", a.netbox.address, "this address or prefix");
    for (CLI::App* subcommand : {import, sync}) {
      subcommand->add_option("--tenant", a.netbox.tenant, "whose; default: any");
      subcommand->add_flag("--dry-run", a.netbox.dry_run, "say what would be done");
    }
  }

  CLI::App* service_command(const std::string& name, const std::string& help, Action action) {
    Target& target = arguments_.target;
    CLI::App* subcommand = command(name, help, std::move(action));
    subcommand->add_option("subscriber", target.subscriber, "UUID or [A-Za-z0-9._-]{1,64}")
        ->required();
    subcommand->add_option("--tenant", target.tenant, "whose subscriber")
        ->envname("ADDRFLOW_TENANT")
        ->required();
    subcommand->add_option("--service", target.service, "which line");
    return subcommand;
  }

  CLI::App* changing_command(const std::string& name, const std::string& help, Action action) {
    Target& target = arguments_.target;
    CLI::App* subcommand = service_command(name, help, std::move(action));
    subcommand->add_option("--key", target.key,
                           "idempotency key: the same key and request is one operation for ever");
    subcommand->add_option("--actor", target.actor, "who asks, for the record")->envname("USER");
    subcommand->add_option("--reason", target.reason, "why, for the record");
    return subcommand;
  }

  CLI::App* with_plan(CLI::App* subcommand) {
    subcommand->add_flag("--dry-run", arguments_.target.dry_run,
                         "say what it would do in every system, and do nothing");
    return subcommand;
  }

  void add_line_hints(CLI::App* subcommand) {
    subcommand->add_option("--username", arguments_.target.username, "RADIUS User-Name");
    subcommand->add_option("--nas-ip", arguments_.target.nas_ip, "a hint; accounting knows better");
  }

  void add_policies(CLI::App* subcommand) {
    ProvisionArguments& provision = arguments_.provision;
    subcommand->add_flag("--skip-netbox", provision.skip_netbox, "leave NetBox alone");
    subcommand->add_option("--on-netbox-failure", provision.on_netbox_failure, "pending or fail")
        ->check(CLI::IsMember({"pending", "fail"}));
  }

  void add_lift_options(CLI::App* subcommand) {
    LiftArguments& lift = arguments_.lift;
    add_line_hints(subcommand);
    subcommand->add_flag("--no-disconnect", lift.no_disconnect, "the hold time decides");
    subcommand->add_flag("--keep-space", lift.keep_space, "keep it reserved for this subscriber");
    subcommand->add_flag("--skip-netbox", lift.skip_netbox, "leave NetBox alone");
  }

  CLI::App* with_families(CLI::App* subcommand) {
    subcommand
        ->add_option("--family", arguments_.target.families,
                     "ipv4 or ipv6_pd, may be repeated; default: what the line has")
        ->check(CLI::IsMember({"ipv4", "ipv6_pd"}));
    return subcommand;
  }

  void add_coa_policy(CLI::App* subcommand) {
    ProvisionArguments& provision = arguments_.provision;
    subcommand->add_flag("--send-coa", provision.send_coa, "tell a live session as well");
    subcommand->add_option("--on-coa-failure", provision.on_coa_failure, "pending or fail")
        ->check(CLI::IsMember({"pending", "fail"}));
  }

  void add_pools(CLI::App* subcommand) {
    ProvisionArguments& provision = arguments_.provision;
    subcommand->add_option("--pool", provision.pool, "name or id; default: the tenant's only one");
    subcommand->add_option("--address", provision.address, "this address and no other");
    subcommand->add_option("--ipv6-pool", provision.ipv6_pool, "pool of delegated prefixes");
    subcommand->add_option("--prefix", provision.prefix, "this delegated prefix and no other");
    subcommand->add_option("--pd-size", provision.pd_size,
                           "48 to 64; default: the pool's, else 56");
  }

  // What changes a line as it lives.
  void add_changes() {
    Arguments& a = arguments_;
    const auto change = [this](const char* name, const char* help, Action action) {
      return with_plan(changing_command(name, help, std::move(action)));
    };
    CLI::App* move = change("move", "The line hangs on another NAS; sessions elsewhere are cut",
                            [&a](const Shell& s) { return run_move(s, a.target, a.lift); });
    move->add_option("--nas-ip", a.target.nas_ip, "the NAS")->required();
    CLI::App* rebind =
        change("rebind", "Another username, with the same space; the former one is refused",
               [&a](const Shell& s) { return run_rebind(s, a.target, a.lift); });
    rebind->add_option("--username", a.target.username, "the new RADIUS User-Name")->required();
    for (CLI::App* subcommand : {move, rebind})
      subcommand->add_flag("--no-disconnect", a.lift.no_disconnect, "leave live sessions alone");

    CLI::App* plan = change(
        "change-plan", "Another rate: the RADIUS group, and a CoA for a live session",
        [&a](const Shell& s) { return run_change_plan(s, a.target, a.provision, a.no_coa); });
    plan->add_option("--plan", a.provision.plan, "RADIUS group of the full plan")->required();
    plan->add_option("--on-coa-failure", a.provision.on_coa_failure, "pending or fail")
        ->check(CLI::IsMember({"pending", "fail"}));
    CLI::App* readdress = with_families(
        change("readdress", "Other space: the new one first, the former one through the gate",
               [&a](const Shell& s) { return run_readdress(s, a.target, a.provision, a.no_coa); }));
    add_pools(readdress);
    readdress->add_option("--nas-ip", a.target.nas_ip, "move it to this NAS as well");
    readdress->add_flag("--skip-netbox", a.provision.skip_netbox, "leave NetBox alone");
    for (CLI::App* subcommand : {plan, readdress})
      subcommand->add_flag("--no-coa", a.no_coa, "leave the live session alone");
  }

  void add_space_options(CLI::App* subcommand) {
    ProvisionArguments& provision = arguments_.provision;
    add_line_hints(subcommand);
    add_pools(subcommand);
    subcommand
        ->add_option("--optional-family", provision.optional_family,
                     "come up without it when it cannot be had")
        ->check(CLI::IsMember({"ipv4", "ipv6_pd"}));
    subcommand
        ->add_option("--restrict-when", provision.restrict_when,
                     "any: one suspended family restricts the session; all: only when both are")
        ->check(CLI::IsMember({"any", "all"}));
    subcommand->add_option("--plan", provision.plan, "RADIUS group of the full plan");
    add_policies(subcommand);
  }

  void add_services() {
    Arguments& a = arguments_;
    CLI::App* provision = with_plan(
        changing_command("provision", "Give a subscriber its addresses, everywhere or nowhere",
                         [&a](const Shell& s) { return run_provision(s, a.target, a.provision); }));
    add_space_options(provision);
    add_coa_policy(provision);
    provision->add_flag("--ipv6", a.provision.ipv6, "an IPv6 delegated prefix as well");
    provision->add_flag("--no-ipv4", a.provision.no_ipv4, "with --ipv6: the prefix alone");

    add_lift_options(with_families(with_plan(
        changing_command("deprovision", "Take a subscriber's addresses back",
                         [&a](const Shell& s) { return run_deprovision(s, a.target, a.lift); }))));

    CLI::App* suspend = with_plan(
        changing_command("suspend", "Restrict a line; --reason is the hold it adds",
                         [&a](const Shell& s) { return run_suspend(s, a.target, a.no_coa); }));
    CLI::App* reactivate = with_plan(
        changing_command("reactivate", "Remove the hold named by --reason; the last one frees it",
                         [&a](const Shell& s) { return run_reactivate(s, a.target, a.no_coa); }));
    for (CLI::App* subcommand : {suspend, reactivate}) {
      add_line_hints(with_families(subcommand));
      subcommand->add_flag("--no-coa", a.no_coa, "leave the live session alone");
    }

    add_space_options(with_families(with_plan(changing_command(
        "allocate", "One operation: reserve an address, a prefix, or both",
        [&a](const Shell& s) { return run_allocate(s, a.target, a.provision); }))));
    CLI::App* activate = with_plan(
        changing_command("activate", "One operation: the allocated address becomes active",
                         [&a](const Shell& s) { return run_activate(s, a.target, a.provision); }));
    add_line_hints(with_families(activate));
    add_coa_policy(activate);
    add_policies(activate);

    CLI::App* revoke = with_plan(
        changing_command("revoke", "One operation: end the present generation",
                         [&a](const Shell& s) { return run_revoke(s, a.target, a.lift); }));
    add_lift_options(with_families(revoke));
    revoke->add_option("--generation", a.lift.generation, "only this generation");

    with_families(changing_command("retry",
                                   "Run the failed step of a failed or revoking line again",
                                   [&a](const Shell& s) { return run_retry(s, a.target); }));
    with_families(
        changing_command("adopt",
                         "Declare a failed line to be in a state, checked against the "
                         "ledger",
                         [&a](const Shell& s) { return run_adopt(s, a.target, a.state); }))
        ->add_option("--state", a.state, "allocated, active, suspended or revoked")
        ->required();
    with_families(changing_command(
        "force-release", "Free the space of a failed or revoking line; needs --reason",
        [&a](const Shell& s) { return run_force_release(s, a.target); }));
    service_command("status", "What the ledger knows of a line",
                    [&a](const Shell& s) { return run_status(s, a.target); });
  }

  void add_paging(CLI::App* subcommand) {
    ListArguments& list = arguments_.list;
    subcommand->add_option("--tenant", list.tenant, "whose; default: all tenants");
    subcommand->add_option("--older-than", list.older_than, "e.g. 24h");
    subcommand->add_option("--limit", list.limit, "lines of a page, 1 to 1000; default: 50");
    subcommand->add_option("--after", list.after, "the page after that one");
  }

  // The workflow by its id, or by the line that it is about.
  void add_workflow_target(CLI::App* subcommand) {
    WorkflowArguments& workflow = arguments_.workflow;
    subcommand->add_option("id", workflow.id, "workflow id; default: the line's");
    subcommand->add_option("--tenant", workflow.target.tenant, "whose subscriber")
        ->envname("ADDRFLOW_TENANT");
    subcommand->add_option("--subscriber", workflow.target.subscriber, "instead of the id");
    subcommand->add_option("--service", workflow.target.service, "which line");
  }

  void add_person(CLI::App* subcommand, Target& target) {
    subcommand->add_option("--actor", target.actor, "who, for the record")->envname("USER");
    subcommand->add_option("--reason", target.reason, "why, for the record")->required();
  }

  void add_operators() {
    Arguments& a = arguments_;
    CLI::App* list = command("list", "Lines by state, pool, age and unconfirmed effects",
                             [&a](const Shell& s) { return run_list(s, a.list); });
    add_paging(list);
    list->add_option("--state", a.list.states, "pending, allocated, active …; may be repeated");
    list->add_option("--pool", a.list.pool, "name or id");
    list->add_option("--family", a.list.family, "ipv4 or ipv6_pd")
        ->check(CLI::IsMember({"ipv4", "ipv6_pd"}));
    list->add_flag("--unconfirmed", a.list.unconfirmed, "only with an unconfirmed effect");

    CLI::App* progress = command("progress", "Every step of a line's or a named workflow",
                                 [&a](const Shell& s) { return run_progress(s, a.workflow); });
    add_workflow_target(progress);

    CLI::App* workflow = app_.add_subcommand("workflow", "Say something to a running workflow")
                             ->require_subcommand(1);
    const auto say = [&](const char* name, const char* word, const char* help) {
      CLI::App* subcommand = workflow->add_subcommand(name, help);
      add_workflow_target(subcommand);
      add_person(subcommand, a.workflow.target);
      subcommand->callback([this, &a, word = std::string{word}] {
        action_ = [&a, word](const Shell& s) { return run_workflow(s, word, a.workflow); };
      });
      return subcommand;
    };
    say("pause", "pause", "No further step begins");
    say("resume", "resume", "Steps begin again");
    say("retry", "retry", "The blocked step begins again at once")
        ->add_option("--step", a.workflow.step, "which one; default: the one under way");
    say("skip", "skip", "Leave an optional step out")
        ->add_option("--step", a.workflow.step, "which one")
        ->required();
    say("give-up", "give_up", "Stop it, and undo what it did where that is the way");
    add_effects();
  }

  void add_effects() {
    Arguments& a = arguments_;
    CLI::App* effect =
        app_.add_subcommand("effect", "Changes in other systems")->require_subcommand(1);
    CLI::App* effects = effect->add_subcommand("list", "Those that nobody has confirmed");
    add_paging(effects);
    effects->add_option("--subscriber", a.list.subscriber, "of one subscriber");
    effects->add_option("--system", a.list.system, "aaa, radius or netbox");
    effects->add_option("--status", a.list.states, "instead: planned, confirmed, refused …");
    effects->callback(
        [this, &a] { action_ = [&a](const Shell& s) { return run_effect_list(s, a.list); }; });
    CLI::App* show = effect->add_subcommand("show", "All that is known of one");
    show->add_option("id", a.effect_id, "its number")->required();
    show->callback(
        [this, &a] { action_ = [&a](const Shell& s) { return run_effect_show(s, a.effect_id); }; });
    CLI::App* abandon = effect->add_subcommand("abandon", "It is tried no more");
    abandon->add_option("id", a.effect_id, "its number")->required();
    add_person(abandon, a.target);
    abandon->callback([this, &a] {
      action_ = [&a](const Shell& s) { return run_effect_abandon(s, a.effect_id, a.target); };
    });
  }

  CLI::App app_;
  Arguments arguments_;
  std::string config_file_;
  bool json_ = false;
  Action action_;
};

}  // namespace
}  // namespace addrflow::cli

int main(int argc, char** argv) {
  // On the heap: CLI11's parser keeps addresses of the arguments.
  return std::make_unique<addrflow::cli::CommandLine>()->run(argc, argv);
}
