#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the shells make of the completion scripts: each is loaded by its shell, which is asked what it would offer."""
import os
import pty
import select
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import PATIENCE, Skip, eq, main, ok, story  # noqa: E402

# What is written, and what is offered then: {all of it}, or [some of it].
CASES = (
    ("weir sh", {"show"}),
    ("weir co", {"config", "completion"}),
    ("weir -i one --socket ./x sta", {"status"}),
    ("weir show po", {"pools"}),
    ("weir show con", {"connections", "config"}),
    ("weir show config --d", {"--diff"}),
    ("weir -c other.yaml show po", {"pools"}),
    ("weir run --conf", {"--config"}),
    ("weir proxy --tls-", {"--tls-cert", "--tls-key"}),
    ("weir help ech", {"echo"}),
    ("weir completion z", {"zsh"}),
    ("weir config exp", {"explain"}),
    ("weir config explain timeouts.first", {"timeouts.first_byte"}),
    ("weir config explain listeners.*.tls.ticket_", {"listeners.*.tls.ticket_keys"}),
    ("weir config explain routes.*[].filters[].rate_limit.ba", {"routes.*[].filters[].rate_limit.ban"}),
    ("weir check -c ./some-", ["some-file.yaml"]),
    ("weir check ./some-", ["some-file.yaml"]),
    ("weir config schema time", set()),
    ("weir status some-", set()),
)

BASH = r"""
source ./weir.bash
read -ra COMP_WORDS <<<"$LINE"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$LINE COMP_POINT=${#LINE}
_weir
printf '%s\n' "${COMPREPLY[@]}"
"""

# The shell's own compadd says what it would add; the line is completed as soon as it can be edited, and is never run.
ZSHRC = r"""
autoload -Uz compinit
if [[ -n $AUTOLOAD ]]; then fpath=($PWD/functions $fpath); fi
compinit -u -D
[[ -n $AUTOLOAD ]] || source ./weir.zsh
compadd() {
    local -a hits
    if (( ! $@[(I)-[OAD]*] )); then
        builtin compadd -O hits "$@"
        (( $#hits )) && print -rl -- $hits >>$PWD/offered
    fi
    builtin compadd "$@"
}
probe() {
    BUFFER=$LINE
    CURSOR=$#BUFFER
    zle complete-word
    BUFFER='exit 0'
    zle accept-line
}
zle -N zle-line-init probe
"""


def in_terminal(command, env, cwd):
    """Runs it with a terminal of its own, to its end; what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd, start_new_session=True)
    os.close(theirs)
    said, until = b"", time.monotonic() + PATIENCE
    try:
        while process.poll() is None and time.monotonic() < until:
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    said += os.read(ours, 65536)
                except OSError:
                    break
        process.wait(max(0.1, until - time.monotonic()))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    return said


def prepare(lab, shell):
    if not shutil.which(shell):
        raise Skip("there is no " + shell)
    lab.write("weir." + shell, lab.cli("completion", shell, check=0)[1])
    lab.write("some-file.yaml", "")
    return {"PATH": os.environ["PATH"], "HOME": lab.dir, "XDG_CONFIG_HOME": lab.dir, "XDG_DATA_HOME": lab.dir, "TERM": "dumb",
            "ZDOTDIR": lab.dir, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}


def check(shell, line, wanted, offered):
    offered = {word.strip() for word in offered if word.strip()}
    if isinstance(wanted, set):
        eq(offered, wanted, "%s: %s<TAB>" % (shell, line))
    else:
        ok(all(any(o.endswith(w) for o in offered) for w in wanted), "%s: %s<TAB>" % (shell, line), offered)


@story
def bash(lab):
    env = prepare(lab, "bash")
    for line, wanted in CASES:
        if line.startswith("weir check ./"):
            continue  # bash does that by itself, where the script offers nothing (complete -o default)
        done = subprocess.run(["bash", "-c", BASH], env={**env, "LINE": line}, cwd=lab.dir, capture_output=True, text=True, timeout=PATIENCE, check=False)
        eq(done.stderr, "", "bash: what is wrong with the script")
        check("bash", line, wanted, done.stdout.splitlines())


def zsh_offers(lab, env, line):
    offered = lab.path("offered")
    if os.path.exists(offered):
        os.unlink(offered)
    said = in_terminal(["zsh", "-d", "-i"], {**env, "LINE": line}, lab.dir)
    ok(b"not found" not in said and b"error" not in said, "zsh: what is wrong with the script", said)
    if not os.path.exists(offered):
        return []
    with open(offered, encoding="utf-8") as f:
        return f.read().splitlines()


@story
def zsh(lab):
    env = prepare(lab, "zsh")
    lab.write(".zshrc", ZSHRC)
    for line, wanted in CASES:
        check("zsh", line, wanted, zsh_offers(lab, env, line))


@story
def zsh_loads_it_itself(lab):
    # The first completion is already one, and not only what defines it.
    env = prepare(lab, "zsh")
    lab.write(".zshrc", ZSHRC)
    os.mkdir(lab.path("functions"))
    shutil.copy(lab.path("weir.zsh"), lab.path("functions/_weir"))
    check("zsh", "weir sh", {"show"}, zsh_offers(lab, {**env, "AUTOLOAD": "1"}, "weir sh"))


@story
def fish(lab):
    env = prepare(lab, "fish")
    for line, wanted in CASES:
        done = subprocess.run(["fish", "--no-config", "-c", "source ./weir.fish; complete -C $LINE"], env={**env, "LINE": line}, cwd=lab.dir,
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        eq(done.stderr, "", "fish: what is wrong with the script")
        check("fish", line, wanted, [offer.split("\t")[0] for offer in done.stdout.splitlines()])


main()
