# shellcheck shell=bash
# Starts and stops background processes by pid files that cannot lie.
#
# A pid file holds the pid and the start time of the process. A number that now belongs to another program has another
# start time, so that program is never signalled. A zombie counts as dead: a pid 1 that reaps late (containers) would
# otherwise make every stop run into its limit.

# process_start PIDFILE LOG COMMAND... : starts COMMAND in a session of its own, output appended to LOG.
process_start() {
    local pidfile=$1 log=$2
    shift 2
    # 9 is the lock of the component's folder; it must not live on in the process.
    setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
    local pid=$! started
    disown "$pid"
    started=$(process_start_time "$pid")
    if [ -z "$started" ]; then
        echo "error: $1 ended at once; see $log" >&2
        return 1
    fi
    echo "$pid $started" >"$pidfile"
}

# process_start_time PID : in clock ticks since boot; empty when there is no such process.
process_start_time() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    # The name, in brackets, may hold blanks: cut it off. What is then field 20 is field 22 of the whole line.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    echo "${20}"
}

# process_is PID START_TIME : whether this very process lives (and is no zombie).
process_is() {
    [ "$(process_start_time "$1")" = "$2" ] && ! process_zombie "$1"
}

process_zombie() {
    grep -qs '^State:[[:space:]]*[ZX]' "/proc/$1/status"
}

# process_reaped PID : whether the number is free, or belongs to a process that runs.
process_reaped() {
    ! process_zombie "$1"
}

# process_alive PIDFILE
process_alive() {
    local pid started
    read -r pid started 2>/dev/null <"$1" && [ -n "$started" ] && process_is "$pid" "$started"
}

# process_tree PID : the process and all that descend from it, one "pid start-time" a line.
process_tree() {
    local stat_file stat pid parent children="" found="$1" grown=yes line
    for stat_file in /proc/[0-9]*/stat; do
        { stat=$(<"$stat_file"); } 2>/dev/null || continue
        pid=${stat%% *}
        parent=${stat##*) ? }
        children+="$pid ${parent%% *}"$'\n'
    done
    while [ -n "$grown" ]; do
        grown=
        while read -r pid parent; do
            [ -n "$pid" ] || continue
            case " $found " in
                *" $pid "*) continue ;;
                *" $parent "*) found+=" $pid" grown=yes ;;
            esac
        done <<<"$children"
    done
    for pid in $found; do
        line=$(process_start_time "$pid")
        [ -z "$line" ] || echo "$pid $line"
    done
}

# process_group PID : of the tree of PID those in its process group, in the same form. What was started in a group of
# its own is meant to live on.
process_group() {
    local pid started group
    group=$(process_group_of "$1")
    process_tree "$1" | while read -r pid started; do
        [ "$(process_group_of "$pid")" != "$group" ] || echo "$pid $started"
    done
}

# process_group_of PID : the number of its group; empty when there is no such process.
process_group_of() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    echo "$3"
}

# process_stop PIDFILE [SIGNAL [SECONDS [LISTING]]] : asks with SIGNAL (TERM), waits at most SECONDS (20), then kills.
# What the process had started, as LISTING says (process_tree or process_group), is given two more seconds to follow
# it, then killed as well.
process_stop() {
    local pidfile=$1 signal=${2:-TERM} seconds=${3:-20} listing=${4:-process_tree} pid started tree
    if process_alive "$pidfile"; then
        read -r pid started <"$pidfile"
        tree=$("$listing" "$pid")
        kill -s "$signal" "$pid" 2>/dev/null || true
        process_wait "$seconds" <<<"$pid $started" ||
            echo "note: process $pid did not stop within $seconds s of SIG$signal; killing it" >&2
        process_wait 2 <<<"$tree" || process_kill_tree "$tree"
    fi
    rm -f "$pidfile"
}

# process_kill PIDFILE [LISTING] : SIGKILL, for the process and all that it had started; returns when they are gone.
process_kill() {
    local pid listing=${2:-process_tree}
    if process_alive "$1"; then
        read -r pid _ <"$1"
        process_kill_tree "$("$listing" "$pid")"
    fi
    rm -f "$1"
}

# process_kill_tree TREE : kills every process of a listing by process_tree that still is the one that was listed.
process_kill_tree() {
    local pid started
    while read -r pid started; do
        if [ -n "$pid" ] && process_is "$pid" "$started"; then
            kill -s KILL "$pid" 2>/dev/null || true
        fi
    done <<<"$1"
    process_wait 10 <<<"$1" || {
        echo "error: these processes do not die: $(tr '\n' ';' <<<"$1")" >&2
        return 1
    }
}

# process_wait SECONDS : waits until none of the "pid start-time" lines on stdin lives.
process_wait() {
    local deadline=$((SECONDS + $1 + 1)) lines pid started alive
    lines=$(cat)
    while :; do
        alive=
        while read -r pid started; do
            if [ -n "$pid" ] && process_is "$pid" "$started"; then alive=yes; fi
        done <<<"$lines"
        [ -n "$alive" ] || return 0
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

# wait_until SECONDS COMMAND... : repeats COMMAND until it succeeds.
wait_until() {
    local deadline=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

# unconfined BINARY DIR : a path under which BINARY runs without its AppArmor profile, which allows the system's own
# folders only. Profiles go by path, so a copy has none. Without AppArmor it is the binary itself.
unconfined() {
    local binary enabled=
    binary=$(command -v "$1") || {
        echo "error: $1 is not installed" >&2
        return 1
    }
    { enabled=$(</sys/module/apparmor/parameters/enabled); } 2>/dev/null || true
    if [ "$enabled" = Y ] && [ -e "/etc/apparmor.d/$(tr / . <<<"${binary#/}")" ]; then
        cp -f "$binary" "$2/$1"
        binary=$2/$1
    fi
    echo "$binary"
}
