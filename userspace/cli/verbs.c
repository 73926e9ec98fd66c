/* SPDX-License-Identifier: Apache-2.0 */
/** verbs.c: the one table of what the command line knows. */
#include "cli/cli.h"

const struct weir_cli_option weir_cli_globals[] = {
    { "config", 'c', "FILE", "the configuration; default /etc/weir/weir.yaml" },
    { "instance", 'i', "NAME", "which instance; default what the configuration says, or main" },
    { "json", 'j', NULL, "JSON in place of tables and of the list of errors" },
    { "socket", 0, "PATH", "the admin socket, in place of the instance's or the configuration's" },
    { "help", 'h', NULL, "help for the verb" },
    { NULL, 0, NULL, NULL },
};

static const struct weir_cli_option run_options[] = {
    { "single", 0, NULL, "one process, no keeper: it is not restarted, and cannot be upgraded" },
    { "exe", 0, "PATH", "what an upgrade starts; default: the path of the binary that runs" },
    { "ready-timeout", 0, "TIME",
      "for a process to read the configuration, and for one to be ready: 5s, 500ms; default 30s" },
    { NULL, 0, NULL, NULL },
};
static const struct weir_cli_option check_options[] = {
    { "effective", 0, NULL, "print the configuration with all defaults" },
    { NULL, 0, NULL, NULL },
};
static const struct weir_cli_option proxy_options[] = {
    { "listen", 'l', "ADDRESS", "where to listen: 127.0.0.1:8080, :8080, [::1]:8080, unix:/PATH" },
    { "to", 't', "SERVER,…",
      "HOST:PORT of the servers, port 80 when there is none; https://HOST:PORT (443) speaks TLS; "
      "with --tcp tls://HOST:PORT" },
    { "tls-cert", 0, "FILE", "serve TLS with this certificate chain (PEM)" },
    { "tls-key", 0, "FILE", "its key; default: in the same file" },
    { "tcp", 0, NULL, "pass bytes on unread, whatever is spoken; with --tls-cert TLS ends here" },
    { "workers", 'w', "N", "threads; default: as many as CPUs may be used" },
    { "print-config", 0, NULL, "print the YAML that the options stand for, and end" },
    { NULL, 0, NULL, NULL },
};
static const struct weir_cli_option echo_options[] = {
    { "listen", 'l', "ADDRESS", "where to listen; may be said several times, by commas" },
    { "tls-cert", 0, "FILE", "serve TLS with this certificate chain (PEM)" },
    { "tls-key", 0, "FILE", "its key; default: in the same file" },
    { NULL, 0, NULL, NULL },
};
static const struct weir_cli_option show_options[] = {
    { "diff", 0, NULL, "show config: only what was set at run time" },
    { "limit", 0, "N", "show connections, splice: at most so many; default 1000" },
    { NULL, 0, NULL, NULL },
};
static const struct weir_cli_option ban_options[] = {
    { "for", 0, "TIME", "how long: 30s, 10m, 2h; default: until it is deleted" },
    { "why", 0, "TEXT", "kept with the ban" },
    { NULL, 0, NULL, NULL },
};
static const struct weir_cli_option help_options[] = {
    { "man", 0, NULL, "print the manual page" },
    { NULL, 0, NULL, NULL },
};

static const char *const show_words[] = { "connections", "splice", "upstreams", "pools", "routes",
                                          "certs",       "bans",   "config",    NULL };
static const char *const set_words[] = { "upstream", "kernel.splice", "log-level", NULL };
static const char *const ban_words[] = { "add", "del", "list", NULL };
static const char *const kern_words[] = { "status", "unload", NULL };
static const char *const config_words[] = { "explain", "schema", NULL };
static const char *const completion_words[] = { "bash", "zsh", "fish", NULL };

const struct weir_cli_verb weir_cli_verbs[] = {
    { "run",
      "[-c FILE] [-i INSTANCE] [--socket PATH] [--single] [--exe PATH] [--ready-timeout TIME]",
      "run the daemon in the foreground",
      "Two processes: a keeper, which has the listeners and the rights, and a proxy, which serves\n"
      "without any and is started again when it dies. Signals are for the keeper.\n"
      "SIGTERM drains, then stops: /readyz says 503 for shutdown.announce, then listeners close "
      "and\n"
      "requests in flight end. SIGINT does the same without the announcement; a second signal\n"
      "stops at once. SIGHUP reloads the configuration, SIGUSR1 reopens logs, SIGUSR2 upgrades as\n"
      "`weir upgrade` does.\n"
      "Exit status 0 after a stop, 1 when it failed, 2 when the configuration is wrong, 3 when "
      "this\n"
      "host lacks something that was required.",
      NULL, run_options, 0, 0, weir_verb_run },
    { "check", "[-c FILE | FILE] [--effective]",
      "read the configuration and print every error and warning",
      "Exit status 2 when there is an error.", NULL, check_options, 0, 1, weir_verb_check },
    { "proxy", "--listen ADDRESS --to SERVER[,SERVER…] [options]", "run without a file",
      "Example: weir proxy --listen :8080 --to 127.0.0.1:3000,127.0.0.1:3001\n"
      "There is an admin socket when -i names the instance.",
      NULL, proxy_options, 0, 0, weir_verb_proxy },
    { "echo", "--listen ADDRESS [--tls-cert FILE]",
      "a demo upstream: answers with what it received",
      "GET /bytes/N gives N bytes, /status/N that status, /delay/MS waits before it answers,\n"
      "/headers the request's fields as JSON. Anything else is told back, as JSON when Accept "
      "asks\n"
      "for it. A WebSocket gets its messages back.",
      NULL, echo_options, 0, 0, weir_verb_echo },
    { "doctor", "[-c FILE]", "what this host can do: what is off, why, what to do",
      "Exit status 3 when something is missing that the configuration needs.", NULL, NULL, 0, 0,
      weir_verb_doctor },
    { "status", "", "one screen of the running daemon", NULL, NULL, NULL, 0, 0, weir_verb_status },
    { "show", "connections|splice|upstreams|pools|routes|certs|bans|config [--diff]",
      "tables of the running daemon", NULL, show_words, show_options, 1, 1, weir_verb_show },
    { "set",
      "upstream NAME/SERVER weight N|drain|ready  or  kernel.splice WORD  or  log-level LEVEL",
      "change the running daemon",
      "Examples: weir set upstream app/10.0.0.1:80 weight 5\n"
      "          weir set upstream app/10.0.0.1:80 drain\n"
      "          weir set kernel.splice off\n"
      "          weir set log-level debug\n"
      "A change is done as a whole or refused as a whole; `weir show config --diff` tells what\n"
      "was changed.",
      set_words, NULL, 2, 4, weir_verb_set },
    { "reload", "", "read the configuration anew, while everything goes on",
      "The new configuration is checked whole, as `weir check` does; when anything is wrong it is\n"
      "refused and told, and what runs goes on. Listeners that stay keep their sockets, requests\n"
      "in progress end as they began, and what was set at run time stays. What needs a restart is\n"
      "told by its name. SIGHUP does the same. Exit status 2 when it was refused.",
      NULL, NULL, 0, 0, weir_verb_reload },
    { "drain", "", "end the daemon as SIGTERM does, and wait until it is drained", NULL, NULL, NULL,
      0, 0, weir_verb_drain },
    { "upgrade", "",
      "start the binary and the configuration that are on the disk, and serve with them",
      "The new process starts beside the old one, on the same listeners; when it is ready the old\n"
      "one takes no more connections and ends those that it has. When it does not become ready,\n"
      "or the configuration is wrong, nothing has happened; exit status 1 says so, and why.",
      NULL, NULL, 0, 0, weir_verb_upgrade },
    { "ban", "add PREFIX [--for TIME] [--why TEXT] | del PREFIX | list",
      "refuse clients at accept, on the daemon's own listeners",
      "Refuses what meets access.never_ban, and the address that asks.", ban_words, ban_options, 1,
      2, weir_verb_ban },
    { "kern", "status | unload [-i INSTANCE]", "what weir has in the kernel; take it away",
      "`status` lists the pins below /sys/fs/bpf/weir, `unload` detaches and removes them: of one\n"
      "instance, or of all. A stop does that by itself; this is for what a crash has left.",
      kern_words, NULL, 1, 1, weir_verb_kern },
    { "config", "explain [KEY] | schema", "what may stand in the configuration",
      "Example: weir config explain upstreams.app.health\n"
      "`schema` prints a JSON Schema for editors. With -c FILE both know the filters of the\n"
      "plug-ins that the file names.",
      config_words, NULL, 1, 2, weir_verb_config },
    { "version", "", "the version", NULL, NULL, NULL, 0, 0, weir_verb_version },
    { "help", "[VERB]", "help", NULL, NULL, help_options, 0, 1, weir_verb_help },
    { "completion", "bash|zsh|fish", "a completion script for a shell",
      "Example: weir completion bash > /etc/bash_completion.d/weir", completion_words, NULL, 1, 1,
      weir_verb_completion },
    { NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL },
};
