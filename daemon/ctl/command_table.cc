// Every command of connectctl and its options, once.
#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

constexpr size_t kMany = 1000;

const OptionSpec kPlugin = {.name = "plugin", .value = "FILE", .help = "plugin that the nodes run"};
const OptionSpec kPeer = {
    .name = "peer", .value = "HOST:PORT", .help = "address for the other nodes"};
const OptionSpec kClient = {.name = "client", .value = "HOST:PORT", .help = "address for clients"};
const OptionSpec kHttp = {.name = "http", .value = "HOST:PORT", .help = "HTTP address"};
const OptionSpec kForce = {.name = "force",
                           .help = "even if no majority can be reached afterwards"};
const OptionSpec kIfIndex = {.name = "if-index",
                             .value = "INDEX",
                             .help = "only if the member list is still that of this index"};
const OptionSpec kTokens = {
    .name = "file", .value = "FILE", .help = "token file, as auth.tokens names it"};
const OptionSpec kSet = {
    .name = "set", .value = "SECTION.KEY=VALUE", .help = "override of one configuration key"};

const OptionSpec kCaDirectory = {
    .name = "dir", .value = "DIR", .help = "directory that `cert ca` has made [.]"};
const OptionSpec kDays = {.name = "days", .value = "N", .help = "validity in days [397]"};
const OptionSpec kCluster = {
    .name = "cluster-name", .value = "NAME", .help = "cluster.name of the nodes [connectd]"};

const std::vector<Command> kCommands = {
    {.words = "status",
     .run = status_command,
     .timeout = std::chrono::seconds(5),
     .help = "Show the status of all nodes",
     .details = "Asks one node, which asks all others; needs no leader. Exits with 0 when a "
                "majority serves, 1 when not, 69 when no node answers."},
    {.words = "call",
     .arguments = "TEXT | --file FILE | -",
     .max_arguments = kMany,
     .options =
         {{.name = "fail", .help = "exit with 2 if the plugin's status is above 0"},
          {.name = "hex", .help = "TEXT is hexadecimal digits"},
          {.name = "file", .value = "FILE", .help = "file with the request"},
          {.name = "resp", .help = "the words are one RESP command: call --resp SET key value"},
          {.name = "read", .value = "LEVEL", .help = "linearizable, lease or stale [linearizable]"},
          {.name = "max-age", .value = "DURATION", .help = "maximum staleness"},
          {.name = "min-index", .value = "N", .help = "entry that a stale read must reflect"}},
     .run = call_command,
     // Longer than a node waits for a leader, so that its own answer arrives.
     .timeout = std::chrono::seconds(10),
     .help = "Send one request to the plugin",
     .details =
         "The plugin decides whether it is a write or a read; any node accepts it. `-` "
         "reads it from standard input. The reply goes to standard output unchanged. "
         "Exits with 0 when the plugin has answered, whatever its status; with --fail, with 2 "
         "when the status is above 0, an error of the plugin. Exits with 1 when the request was "
         "refused, 75 when there is no leader or the outcome is not known."},
    {.words = "member list",
     .run = member_list_command,
     .timeout = std::chrono::seconds(6),
     .help = "List the members of the cluster",
     .details = "Also prints the index of the entry that set the list, for --if-index."},
    {.words = "member add",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kPeer,
                 kClient,
                 kHttp,
                 {.name = "learner", .help = "no promotion: it has the data, and no vote"},
                 kIfIndex},
     .run = member_add_command,
     .timeout = std::chrono::minutes(10),
     .help = "Add a member",
     .details = "It joins as a learner, catches up, and becomes a voter by itself; the command "
                "waits for that. Start its connectd with an empty data directory and a "
                "configuration that lists the other members. Never use an id twice."},
    {.words = "member promote",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kIfIndex},
     .run = member_promote_command,
     .timeout = std::chrono::minutes(10),
     .help = "Promote a learner to voter",
     .details = "The promotion happens when the learner has caught up; the command waits for it."},
    {.words = "member remove",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kForce, kIfIndex},
     .run = member_remove_command,
     .timeout = std::chrono::minutes(10),
     .help = "Remove a member permanently",
     .details = "Its connectd stops by itself. Refused when the remaining voters that can be "
                "reached are not a majority, unless --force is given."},
    {.words = "member replace",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kPeer, kClient, kHttp, kForce, kIfIndex},
     .run = member_replace_command,
     .timeout = std::chrono::minutes(10),
     .help = "Replace the lost disk of a member by an empty one",
     .details = "Start its connectd with an empty data directory, before or after. It loses its "
                "vote, catches up as a learner, and becomes a voter by itself; the command waits "
                "for that."},
    {.words = "leader show",
     .run = leader_show_command,
     .timeout = std::chrono::seconds(6),
     .help = "Show the leader",
     .details = "Exits with 1 when there is none."},
    {.words = "leader transfer",
     .options = {{.name = "to", .value = "ID", .help = "the new leader [most up to date]"}},
     .run = leader_transfer_command,
     .timeout = std::chrono::seconds(10),
     .help = "Transfer leadership",
     .details = "Waits until another member leads."},
    {.words = "settings list",
     .run = settings_list_command,
     .timeout = std::chrono::seconds(6),
     .help = "List the settings of the cluster"},
    {.words = "settings set",
     .arguments = "KEY VALUE",
     .min_arguments = 2,
     .max_arguments = 2,
     .run = settings_set_command,
     .timeout = std::chrono::seconds(10),
     .help = "Change a setting of the cluster",
     .details = "The change goes through the log: it is in force on every node that has the "
                "entry, and survives restarts. Waits until it is committed. Configuration files "
                "set these keys only when the cluster forms."},
    {.words = "snapshot take",
     .run = snapshot_take_command,
     .timeout = std::chrono::minutes(10),
     .help = "Take a snapshot on each node of -e",
     .details = "Waits until it is durable, and prints its index and size."},
    {.words = "snapshot list",
     .run = snapshot_list_command,
     .timeout = std::chrono::seconds(35),
     .help = "List the snapshots of each node of -e"},
    {.words = "snapshot save",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {{.name = "fresh", .help = "a new snapshot instead of the newest one"}},
     .run = snapshot_save_command,
     .timeout = std::chrono::minutes(10),
     .help = "Copy a snapshot of a node to FILE, for a backup",
     .details = "Asks the first node of -e, on its own machine. The copy is verified before it "
                "gets its name; an existing file is never overwritten."},
    {.words = "snapshot inspect",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = snapshot_inspect_command,
     .help = "Verify and describe a snapshot file (offline)"},
    {.words = "snapshot restore",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {{.name = "data-dir",
                  .value = "DIR",
                  .help = "an empty or new directory [of --config: node.data_dir]"},
                 {.name = "config",
                  .value = "FILE",
                  .help = "configuration that connectd will run with there"},
                 {.name = "node",
                  .value = "ID",
                  .help = "id of the first member [1; of --config: node.id]"},
                 {.name = "cluster-name",
                  .value = "NAME",
                  .help = "name of the new cluster [of --config: cluster.name; else unchanged]"},
                 kPeer,
                 kClient,
                 kHttp,
                 kSet},
     .run = snapshot_restore_command,
     .help = "Create a new cluster from a saved snapshot (offline)",
     .details = "Creates the data directory of its only member; add others while it runs. The "
                "state, the plugin's options and the other settings are the old cluster's; the "
                "identity is new, so that the two never communicate, and the sessions of "
                "the old cluster are closed."},
    {.words = "cluster start",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {{.name = "nodes", .value = "N", .help = "number of nodes, for a new DIR [3]"},
                 kPlugin,
                 {.name = "port",
                  .value = "PORT",
                  .help = "first peer port; clients 100 above, HTTP 200 above [7101]"},
                 {.name = "connectd",
                  .value = "FILE",
                  .help = "daemon to run [connectd beside connectctl]"}},
     .run = cluster_start_command,
     .timeout = std::chrono::seconds(30),
     .asks_endpoints = false,
     .help = "Start a cluster on this machine, for development",
     .details = "A new DIR gets the configuration files, and later the data, logs and process "
                "ids, of the nodes. Nodes that already run are left alone. Waits until all are "
                "ready."},
    {.words = "cluster stop",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = cluster_stop_command,
     .timeout = std::chrono::seconds(30),
     .asks_endpoints = false,
     .help = "Stop the nodes that `cluster start` started",
     .details = "Sends SIGTERM and waits; never kills. The data stays."},
    {.words = "cluster status",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = cluster_status_command,
     .help = "Show which nodes of DIR run",
     .details = "Exits with 1 when not all do."},
    {.words = "reload",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = reload_command,
     .timeout = std::chrono::seconds(30),
     .asks_endpoints = false,
     .help = "Have a node of this machine read its files again",
     .details = "DIR is the node's directory below /run/connectd, or its data directory if it has "
                "none there. Sends SIGHUP, and waits until the node has accepted or rejected its "
                "files: the configuration, and those that it names. Prints what has changed, and "
                "what counts after a restart only. When one is rejected, nothing has changed, and "
                "the exit code is that of a start with them. Exits with 69 when no node runs "
                "there, 75 when it does not answer in time."},
    {.words = "recover",
     .options = {{.name = "data-dir",
                  .value = "DIR",
                  .help = "data directory of a node that does not run"},
                 {.name = "members",
                  .value = "SURVIVOR,...",
                  .help = "survivors, as this command prints them without --members"},
                 {.name = "skip-entry",
                  .value = "INDEX",
                  .help = "entry that the plugin will not get; or INDEX:TERM:CHECKSUM"},
                 {.name = "yes", .help = "no question before the change"}},
     .run = recover_command,
     .help = "Recover a lost majority or skip an entry (offline)",
     .details = "With --data-dir alone, shows how the log of this node ends, and changes "
                "nothing. --members, after the loss of a majority: writes that the lost members "
                "acknowledged and that no survivor has are gone; run it on every survivor, with "
                "the same list. --skip-entry, when the plugin fails on an entry at each start: "
                "run it on every member. Exits with 0 when it is done, 1 when it is refused, 65 "
                "when the directory is damaged, 75 when its node runs. How to decide: "
                "docs/operations.md."},
    {.words = "inspect wal",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = inspect_wal_command,
     .help = "Print every record of the log in a data directory",
     .details = "Read only; best while its node does not run. Continues after damage; exits with "
                "1 when there is any."},
    {.words = "inspect snapshot",
     .arguments = "DIR|FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = inspect_snapshot_command,
     .help = "Verify the snapshots in a data directory",
     .details = "Read only. Exits with 1 when one is damaged."},
    {.words = "inspect identity",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = inspect_identity_command,
     .help = "Show which node and cluster a data directory belongs to",
     .details = "Read only."},
    {.words = "config check",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kSet, {.name = "node", .value = "ID", .help = "node to check the file for"}},
     .run = config_check_command,
     .help = "Check a configuration file",
     .details = "Prints every error with its line. Exits with 78 when there is one."},
    {.words = "config reference",
     .run = config_reference_command,
     .help = "Print every configuration key: type, range, default, meaning",
     .details = "Markdown; an annotated file to start from is at its end."},
    {.words = "cert ca",
     .arguments = "DIR",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {{.name = "name", .value = "NAME", .help = "name of the CA [connectd CA]"},
                 {.name = "days", .value = "N", .help = "validity in days [3650]"}},
     .run = cert_ca_command,
     .help = "Make a CA for development and small clusters",
     .details = "Writes DIR/ca.pem and DIR/ca.key, and never over a file that exists. Who has "
                "ca.key can be every node and every client: keep it off the nodes. Make one CA for "
                "nodes and another one for clients."},
    {.words = "cert node",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kCaDirectory,
                 kCluster,
                 {.name = "host",
                  .value = "HOST",
                  .help = "DNS name or IP address of the node; may be repeated"},
                 kDays},
     .run = cert_node_command,
     .help = "Make the certificate of a node",
     .details = "Writes DIR/node-ID.pem and DIR/node-ID.key. Other nodes know it by the URI "
                "connectd://CLUSTER/node/ID in it, clients by the hosts."},
    {.words = "cert client",
     .arguments = "NAME",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kCaDirectory,
                 kCluster,
                 {.name = "roles",
                  .value = "LIST",
                  .help = "read, write, admin, monitor, backup, joined with commas [read]"},
                 kDays},
     .run = cert_client_command,
     .help = "Make the certificate of a client",
     .details = "Writes DIR/client-NAME.pem and DIR/client-NAME.key. The URIs "
                "connectd://CLUSTER/client/NAME and connectd://CLUSTER/role/ROLE in it say who it "
                "is and what it may do."},
    {.words = "cert renew",
     .arguments = "ID|NAME|FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kCaDirectory, kDays},
     .run = cert_renew_command,
     .help = "Replace a certificate and its key by new ones",
     .details =
         "Of the node ID, the client NAME, or FILE.pem beside FILE.key: the names, roles and "
         "uses stay. The old certificate is kept as FILE.pem.old, to be revoked if it must "
         "be; the old key is not kept. Refuses what the CA in DIR has not signed or has "
         "revoked. If it was interrupted, run it again. A node that reads the files between "
         "the two replacements rejects them; reload it afterwards."},
    {.words = "cert revoke",
     .arguments = "[FILE]...",
     .max_arguments = kMany,
     .options = {kCaDirectory, kDays},
     .run = cert_revoke_command,
     .help = "Revoke certificates of a CA",
     .details = "Adds them to the list DIR/revoked.pem, which is replaced in one step; copy it to "
                "the nodes and reload them. Without FILE, only renews the list, whose validity is "
                "that of --days."},
    {.words = "cert show",
     .arguments = "FILE",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = cert_show_command,
     .help = "Describe the certificates in a file",
     .details = "Exits with 1 when one is not valid now."},
    {.words = "cert check",
     .options = {{.name = "crl", .value = "FILE", .help = "revocation lists"},
                 {.name = "use", .value = "USE", .help = "peers, server or client [peers]"},
                 kCluster,
                 {.name = "node", .value = "ID", .help = "node that the certificate must be of"}},
     .run = cert_check_command,
     .help = "Check certificate files as a node loads them",
     .details = "Of --cert, with those above it behind it, --key and --cacert. Of peers, also "
                "whether nodes with the same files accept each other. Exits with 1 "
                "when there is a warning, such as less than 30 days left; 77 when others may read "
                "the key; 66 or 78 when the files cannot be used."},
    {.words = "token new",
     .options = {{.name = "id", .value = "ID", .help = "8 to 16 of a-z and 0-9 [random]"},
                 {.name = "roles",
                  .value = "LIST",
                  .help = "read, write, admin, monitor, backup, joined with commas [read]"},
                 {.name = "expires",
                  .value = "DAYS|DATE",
                  .help = "30, 2027-01-31 or 2027-01-31T00:00:00Z [never]"},
                 kTokens},
     .run = token_new_command,
     .help = "Make a token for a client or an operator",
     .details = "Prints it once, and adds its hash to FILE, which is created readable by its owner "
                "only; without --file, prints the line for the file. A token cannot be chosen. "
                "Nodes accept it after a reload (after a restart if systemd hands the file over)."},
    {.words = "token list",
     .options = {kTokens},
     .run = token_list_command,
     .help = "List the tokens of a token file"},
    {.words = "token remove",
     .arguments = "ID",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = {kTokens},
     .run = token_remove_command,
     .help = "Remove a token from a token file",
     .details = "Nodes refuse it after a reload (after a restart if systemd hands the file over). "
                "Exits with 1 when no token has this ID."},
    {.words = "token check",
     .options = {kTokens},
     .run = token_check_command,
     .help = "Show the roles of a token",
     .details = "Reads the token from the variable CONNECTCTL_TOKEN or from standard input, never "
                "from an argument, and compares it with FILE. Exits with 1 when it is not good, "
                "and prints why."},
    {.words = "sim",
     .options = {{.name = "plugin", .value = "FILE", .help = "plugin to test"},
                 {.name = "seed", .value = "N", .help = "first seed [1]"},
                 {.name = "seeds",
                  .value = "K",
                  .help = "number of seeds [1; with --minutes: as many as fit]"},
                 {.name = "minutes", .value = "M", .help = "time limit"},
                 {.name = "steps",
                  .value = "M",
                  .help = "events of each run's faulty phase [20 simulated seconds]"},
                 {.name = "nodes", .value = "N", .help = "1 to 9 [3; every fifth seed 5]"},
                 {.name = "clients", .value = "N", .help = "concurrent connections [6]"},
                 {.name = "faults",
                  .value = "LIST",
                  .help = "all, none, or names: message_loss,pause or all,-bit_flip [all]"},
                 {.name = "requests",
                  .value = "FILE",
                  .help = "one request a line; {n} is a fresh number, {k} one of five"},
                 {.name = "trace", .help = "events on standard error"}},
     .run = sim_command,
     .help = "Simulate a whole cluster with your plugin under faults",
     .details = "Runs the real consensus, log, snapshots and sessions in one thread on virtual "
                "networks, disks and clocks. The seed determines everything: a failure repeats "
                "at the same event. After each event the invariants of Raft are checked, and "
                "over the whole run that no acknowledged write is lost, each is applied once, "
                "reads are linearizable, and the plugin gives the same replies on every node. "
                "Exits with 1 when a rule was broken, and prints how to replay it."},
    {.words = "completion",
     .arguments = "bash|zsh|fish",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = completion_command,
     .help = "Print the completion script of a shell",
     .details = "For example: connectctl completion bash > "
                "/usr/share/bash-completion/completions/connectctl"},
    {.words = "version", .run = version_command, .help = "Print the version"},
    {.words = "help",
     .arguments = "[COMMAND]",
     .max_arguments = 3,
     .options = {{.name = "man", .help = "the manual page connectctl(1), as roff"}},
     .run = help_command,
     .help = "Print help on connectctl, or on one command"},
};

}  // namespace

const std::vector<OptionSpec>& global_options() {
  static const std::vector<OptionSpec> kOptions = {
      {.name = "endpoint",
       .value = "HOST:PORT,...",
       .help = "HTTP addresses, tried in turn [those of /etc/connectd/*.yaml]",
       .letter = "e"},
      {.name = "context",
       .value = "NAME",
       .help = "options of contexts.yaml [CONNECTCTL_CONTEXT, or its default]"},
      {.name = "output", .value = "table|json", .help = "output format [table]", .letter = "o"},
      {.name = "timeout",
       .value = "DURATION",
       .help = "longest wait of the whole command; its help names the default"},
      {.name = "token-file",
       .value = "FILE",
       .help = "file with the token to show [the variable CONNECTCTL_TOKEN]"},
      {.name = "cacert",
       .value = "FILE",
       .help = "CAs of the nodes: ask them inside TLS [as in /etc/connectd/*.yaml]"},
      {.name = "cert", .value = "FILE", .help = "own certificate, to be shown to the nodes"},
      {.name = "key", .value = "FILE", .help = "private key of --cert"},
      {.name = "help", .help = "help on connectctl, or on the command", .letter = "h"},
  };
  return kOptions;
}

const std::vector<Command>& commands() { return kCommands; }

}  // namespace connectd::ctl
