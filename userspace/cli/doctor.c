/* SPDX-License-Identifier: Apache-2.0 */
/**
 * doctor.c: what this host can do. A check is a function that says ok, warn, off or bad, why,
 * and what to do; `bad` is what the configuration needs and the host has not (exit status 3).
 */
#include "cli/client.h"
#include "cli/doctor.h"
#include "cli/table.h"

#include "daemon/confine.h"
#include "daemon/privilege.h"
#include "loader/loader.h"
#include "net/addr.h"
#include "weir/weir.h"

#include <ares.h>
#include <errno.h>
#include <linux/capability.h>
#include <openssl/crypto.h>
#include <protobuf-c/protobuf-c.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <uv.h>
#include <yaml.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { LOW_PORTS = 1024 }; /* where the kernel does not say */

static const char *const state_names[] = { "ok", "warn", "off", "missing" };

void doctor_say(struct finding *f, enum finding_state state, const char *format, ...)
{
    va_list args;

    f->state = state;
    va_start(args, format);
    vsnprintf(f->why, sizeof(f->why), format, args);
    va_end(args);
}

void doctor_todo(struct finding *f, const char *text)
{
    snprintf(f->todo, sizeof(f->todo), "%s", text);
}

/* The first line of a file; false when it cannot be read. */
static bool read_line(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");
    bool good = file && fgets(out, (int)size, file);

    if (file)
        fclose(file);
    if (good)
        out[strcspn(out, "\n")] = '\0';
    return good;
}

/* ---- kernel ------------------------------------------------------------------------------- */

static void check_kernel(const struct doctor *doctor, struct finding *f)
{
    struct utsname name;
    int major = 0, minor = 0;

    (void)doctor;
    if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2) {
        doctor_say(f, FINDING_WARN, "its version cannot be told");
        return;
    }
    if (major > 6 || (major == 6 && minor >= 1)) {
        doctor_say(f, FINDING_OK, "Linux %s", name.release);
        return;
    }
    doctor_say(f, FINDING_WARN, "Linux %s is older than 6.1: connections are copied, by epoll",
               name.release);
    doctor_todo(f, "Linux 6.1 or later is supported whole");
}

static void check_btf(const struct doctor *doctor, struct finding *f)
{
    (void)doctor;
    if (access("/sys/kernel/btf/vmlinux", R_OK) == 0) {
        doctor_say(f, FINDING_OK, "/sys/kernel/btf/vmlinux is there");
        return;
    }
    doctor_say(f, FINDING_OFF, "/sys/kernel/btf/vmlinux: %s; `splice: sockmap` needs it",
               strerror(errno));
    doctor_todo(f, "a kernel with CONFIG_DEBUG_INFO_BTF=y has it");
}

static bool is_low(struct weir_str bind, long low)
{
    struct weir_addr addr;
    uint16_t port = weir_addr_parse(&addr, bind) ? 0 : weir_addr_port(&addr);

    return port && port < low;
}

/* The first address of the configuration whose port is below `low`; absent: none. */
static struct weir_str low_bind(const struct weir_conf *conf, long low)
{
    const struct weir_listener_conf *listeners = conf->proxy.listeners.at;

    for (size_t i = 0; i < conf->proxy.listeners.count; i++)
        for (size_t j = 0; j < listeners[i].bind.count; j++)
            if (is_low(listeners[i].bind.at[j], low))
                return listeners[i].bind.at[j];
    return is_low(conf->admin.listen, low) ? conf->admin.listen : (struct weir_str){ NULL, 0 };
}

/* CapEff of this process, as the kernel writes it; "" when it cannot be read. */
static void read_caps(char caps[64])
{
    char line[256] = "";
    FILE *file = fopen("/proc/self/status", "re");

    caps[0] = '\0';
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "CapEff: %63s", caps) == 1)
            break;
    }
    if (file)
        fclose(file);
}

static void check_privileges(const struct doctor *doctor, struct finding *f)
{
    char caps[64], text[64];
    bool known = read_line("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof(text));
    long low = known ? strtol(text, NULL, 10) : LOW_PORTS;
    struct weir_str bind = { NULL, 0 };
    bool may;

    read_caps(caps);
    may = strtoull(caps, NULL, 16) >> CAP_NET_BIND_SERVICE & 1;
    if (doctor->conf && !may)
        bind = low_bind(doctor->conf, low);
    if (!weir_str_absent(bind)) {
        doctor_say(f, FINDING_BAD, "uid %u, capabilities %s: '%.*s' cannot be bound",
                   (unsigned)geteuid(), caps, WEIR_FMT(bind));
        doctor_todo(f, "root, CAP_NET_BIND_SERVICE, or sysctl net.ipv4.ip_unprivileged_port_start");
        return;
    }
    if (geteuid() == 0) {
        doctor_say(f, FINDING_OK, "root, capabilities %s; `run` becomes `user` after it has bound",
                   caps);
        return;
    }
    doctor_say(f, FINDING_OK, "uid %u, capabilities %s", (unsigned)geteuid(), caps);
    if (!may && !doctor->conf)
        doctor_todo(f, "as it is, ports below net.ipv4.ip_unprivileged_port_start cannot be bound");
}

/* Whom `run` becomes: as weir_user_find() says. */
static void check_user(const struct doctor *doctor, struct finding *f)
{
    struct weir_str user = doctor->conf ? doctor->conf->user : WEIR_STR("weir");
    const struct passwd *entry;
    char name[64];

    if (geteuid() != 0) {
        doctor_say(f, FINDING_OK, "`run` stays uid %u, as it is not started by root",
                   (unsigned)geteuid());
        return;
    }
    snprintf(name, sizeof(name), "%.*s", WEIR_FMT(user));
    entry = getpwnam(name);
    if (entry) {
        doctor_say(f, FINDING_OK, "'%s' is uid %u", name, (unsigned)entry->pw_uid);
        return;
    }
    if (getpwnam("nobody"))
        doctor_say(f, FINDING_WARN, "there is no user '%s': `run` becomes 'nobody'", name);
    else
        doctor_say(f, FINDING_BAD, "there is no user '%s', and no 'nobody'", name);
    doctor_todo(f,
                "useradd --system --no-create-home --shell /usr/sbin/nologin NAME, or set `user`");
}

/* ---- limits ------------------------------------------------------------------------------- */

static void check_nofile(const struct doctor *doctor, struct finding *f)
{
    int64_t connections = doctor->conf ? doctor->conf->proxy.limits.connections : 100000;
    unsigned long long needed = weir_nofile_needed(connections);
    struct rlimit limit, want;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        doctor_say(f, FINDING_WARN, "%s", strerror(errno));
        return;
    }
    want = (struct rlimit){ needed, limit.rlim_max > needed ? limit.rlim_max : needed };
    if (limit.rlim_cur >= needed || setrlimit(RLIMIT_NOFILE, &want) == 0) { /* as `run` will */
        doctor_say(f, FINDING_OK, "soft %llu, hard %llu; limits.connections %lld needs %llu",
                   (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max,
                   (long long)connections, needed);
        return;
    }
    doctor_say(f, FINDING_WARN, "hard limit %llu, but limits.connections %lld needs %llu",
               (unsigned long long)limit.rlim_max, (long long)connections, needed);
    doctor_todo(f, "LimitNOFILE= of the unit, `ulimit -Hn`, or a smaller limits.connections");
}

static void check_somaxconn(const struct doctor *doctor, struct finding *f)
{
    char text[64];
    long have;

    (void)doctor;
    if (!read_line("/proc/sys/net/core/somaxconn", text, sizeof(text))) {
        doctor_say(f, FINDING_WARN, "net.core.somaxconn cannot be read");
        return;
    }
    have = strtol(text, NULL, 10);
    if (have >= 4096) {
        doctor_say(f, FINDING_OK, "net.core.somaxconn is %ld", have);
        return;
    }
    doctor_say(f, FINDING_WARN,
               "net.core.somaxconn is %ld: a listener's backlog of 4096 is cut to that", have);
    doctor_todo(f, "sysctl -w net.core.somaxconn=4096");
}

static void check_ports(const struct doctor *doctor, struct finding *f)
{
    char text[64];
    int low = 0, high = 0;

    (void)doctor;
    if (!read_line("/proc/sys/net/ipv4/ip_local_port_range", text, sizeof(text)) ||
        sscanf(text, "%d %d", &low, &high) != 2) {
        doctor_say(f, FINDING_WARN, "net.ipv4.ip_local_port_range cannot be read");
        return;
    }
    if (high - low >= 28000) {
        doctor_say(f, FINDING_OK, "%d to %d: %d connections to one address of an upstream", low,
                   high, high - low + 1);
        return;
    }
    doctor_say(f, FINDING_WARN, "%d to %d: only %d connections to one address of an upstream", low,
               high, high - low + 1);
    doctor_todo(f, "sysctl -w net.ipv4.ip_local_port_range='1024 65535'");
}

static void check_memory(const struct doctor *doctor, struct finding *f)
{
    char text[64], limit[32], host[32];
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    (void)doctor;
    weir_human_bytes(host, total);
    if (read_line("/sys/fs/cgroup/memory.max", text, sizeof(text)) && strcmp(text, "max") != 0)
        doctor_say(f, FINDING_OK, "the control group allows %s, the host has %s",
                   weir_human_bytes(limit, strtoull(text, NULL, 10)), host);
    else
        doctor_say(f, FINDING_OK, "the host has %s; no control group limits it", host);
}

/* ---- processors --------------------------------------------------------------------------- */

static void check_workers(const struct doctor *doctor, struct finding *f)
{
    cpu_set_t set;
    char text[64];
    double quota = 0;
    long long max, period;
    int cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    int workers = cpus;
    int64_t asked = doctor->conf ? doctor->conf->proxy.workers : 0;

    if (read_line("/sys/fs/cgroup/cpu.max", text, sizeof(text)) &&
        sscanf(text, "%lld %lld", &max, &period) == 2 && period > 0) {
        quota = (double)max / (double)period;
        if (quota < cpus)
            workers = quota < 1 ? 1 : (int)(quota + 0.999);
    }
    if (quota > 0)
        doctor_say(f, FINDING_OK, "affinity allows %d CPU%s, cpu.max %.1f: `workers: auto` is %d",
                   cpus, cpus == 1 ? "" : "s", quota, workers);
    else
        doctor_say(f, FINDING_OK, "affinity allows %d CPU%s, no cpu.max: `workers: auto` is %d",
                   cpus, cpus == 1 ? "" : "s", workers);
    if (asked > cpus) {
        f->state = FINDING_WARN;
        doctor_todo(f, "the configuration asks for more workers than CPUs");
    }
}

static void check_epoll(const struct doctor *doctor, struct finding *f)
{
    (void)doctor;
    doctor_say(f, FINDING_OK, "edge-triggered; what `io: auto` uses");
}

static void check_uring(const struct doctor *doctor, struct finding *f)
{
    (void)doctor;
    doctor_say(f, FINDING_OFF, "not built yet");
}

static void check_confinement(const struct doctor *doctor, struct finding *f)
{
    bool required = doctor->conf && doctor->conf->confine == WEIR_CONFINE_REQUIRE;
    struct weir_confinement can;

    weir_confine_probe(&can);
    if (can.seccomp == 0 && can.landlock > 0) {
        doctor_say(f, FINDING_OK, "seccomp, and Landlock version %d", can.landlock);
        return;
    }
    doctor_say(f, required ? FINDING_BAD : FINDING_WARN, "seccomp: %s; Landlock: %s",
               can.seccomp ? strerror(-can.seccomp) : "there",
               can.landlock < 0 ? strerror(-can.landlock) : "there");
    doctor_todo(f, can.landlock == -EOPNOTSUPP
                       ? "Landlock is built in and off: boot with lsm=landlock,… added"
                       : "a kernel with CONFIG_SECCOMP_FILTER and CONFIG_SECURITY_LANDLOCK");
}

static void check_libraries(const struct doctor *doctor, struct finding *f)
{
    char pcre2[64] = "?";
    int major, minor, patch;

    (void)doctor;
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    pcre2[strcspn(pcre2, " ")] = '\0';
    yaml_get_version(&major, &minor, &patch);
    doctor_say(f, FINDING_OK,
               "%s, libuv %s, c-ares %s, PCRE2 %s, libyaml %d.%d.%d, jansson %s, protobuf-c %s, "
               "libbpf %s",
               OpenSSL_version(OPENSSL_VERSION), uv_version_string(), ares_version(NULL), pcre2,
               major, minor, patch, jansson_version_str(), protobuf_c_version(),
               weir_kern_libbpf());
}

static const struct {
    const char *name;
    void (*check)(const struct doctor *doctor, struct finding *finding);
} checks[] = {
    { "kernel", check_kernel },
    { "BTF", check_btf },
    { "privileges", check_privileges },
    { "user", check_user },
    { "file descriptors", check_nofile },
    { "accept queue", check_somaxconn },
    { "local ports", check_ports },
    { "memory", check_memory },
    { "workers", check_workers },
    { "io: epoll", check_epoll },
    { "io: io-uring", check_uring },
    { "splice: pipe", weir_doctor_pipe },
    { "splice: sockmap", weir_doctor_sockmap },
    { "confinement", check_confinement },
    { "libraries", check_libraries },
};
enum { CHECKS_COUNT = sizeof(checks) / sizeof(checks[0]) };

static void print_text(const struct finding *findings, FILE *out)
{
    static const enum weir_colour colours[] = { WEIR_GOOD, WEIR_WARN, WEIR_DIM, WEIR_BAD };

    for (int i = 0; i < CHECKS_COUNT; i++) {
        const struct finding *f = &findings[i];

        fprintf(out, "%s%-8s%s %-17s %s\n", weir_colour(out, colours[f->state]),
                state_names[f->state], weir_colour_end(out), checks[i].name, f->why);
        if (f->todo[0])
            fprintf(out, "%27s%s> %s%s\n", "", weir_colour(out, WEIR_DIM), f->todo,
                    weir_colour_end(out));
    }
}

static void print_json(const struct finding *findings, FILE *out)
{
    json_t *list = json_array();

    for (int i = 0; i < CHECKS_COUNT; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "check", checks[i].name, "state",
                                              state_names[findings[i].state], "why",
                                              findings[i].why, "todo", findings[i].todo));
    json_dumpf(list, out, JSON_INDENT(2));
    fputc('\n', out);
    json_decref(list);
}

int weir_verb_doctor(struct weir_cli *cli)
{
    struct finding findings[CHECKS_COUNT] = { 0 };
    struct doctor doctor = { NULL };
    struct weir_conf *conf = NULL;
    int status = WEIR_EXIT_DONE;

    if (cli->conf)
        conf = weir_cli_load(cli, NULL, &status);
    if (status)
        return status;
    doctor.conf = conf;
    for (int i = 0; i < CHECKS_COUNT; i++) {
        checks[i].check(&doctor, &findings[i]);
        if (findings[i].state == FINDING_BAD)
            status = WEIR_EXIT_HOST;
    }
    if (cli->json)
        print_json(findings, cli->out);
    else
        print_text(findings, cli->out);
    weir_conf_free(conf);
    return status;
}
