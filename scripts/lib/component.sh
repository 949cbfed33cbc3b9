# shellcheck shell=bash
# What all scripts in scripts/components have in common: arguments, locking, the file with the variables.
#
# A component sets ABOUT (one line), VARIABLES (one "NAME meaning" a line) and PACKAGES, and defines, with $DIR as its
# folder:
#   component_start      sets up what is missing and starts what is not running; returns when it answers
#   component_alive      whether everything runs
#   component_stop       stops everything, cleanly
#   component_variables  calls `variable NAME VALUE` for each variable
# and, if it can be killed for restart tests, component_kill. Last it calls `component_main "$@"`.

# shellcheck source=scripts/lib/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
# shellcheck source=scripts/lib/ports.sh
. "$(dirname "${BASH_SOURCE[0]}")/ports.sh"
# shellcheck source=scripts/lib/process.sh
. "$(dirname "${BASH_SOURCE[0]}")/process.sh"

# variable NAME VALUE : prints a shell assignment, quoted where needed.
variable() {
    printf '%s=%q\n' "$1" "$2"
}

component_help() {
    local kill_word="" kill_help=""
    if declare -F component_kill >/dev/null; then
        kill_word="|kill"
        kill_help=$'\n  kill      SIGKILL, as a crash would be; the next `up` finds the data as it was left'
    fi
    cat <<HELP
usage: $0 {up|down|status$kill_word} DIR
       $0 packages

$ABOUT

  up        installs what is missing, starts the instance whose data is in DIR unless it runs already, and prints
            shell assignments (also kept in DIR/env). Ports are free ones on 127.0.0.1, remembered in DIR.
  down      stops it and leaves no process; the data stays
  status    prints "running" or "stopped" (exit code 3)$kill_help
  packages  prints the Debian packages it needs

The variables:
  ${VARIABLES//$'\n'/$'\n'  }
HELP
}

component_main() {
    case ${1:-} in
        -h | --help | help) component_help && return ;;
        packages) echo "${PACKAGES[@]}" && return ;;
        up | down | status) ;;
        kill) declare -F component_kill >/dev/null || component_usage_error "$@" ;;
        *) component_usage_error "$@" ;;
    esac
    if [ $# -ne 2 ] || [ -z "$2" ]; then component_usage_error "$@"; fi
    if [ "$1" != up ] && [ ! -d "$2" ]; then
        # Never started: nothing to stop.
        if [ "$1" = status ]; then echo stopped && return 3; else return 0; fi
    fi
    mkdir -p "$2"
    DIR=$(cd "$2" && pwd)
    # Two calls for one folder take turns.
    exec 9>"$DIR/lock"
    flock 9
    "component_do_$1"
}

component_usage_error() {
    echo "error: not understood: $0 $*" >&2
    component_help >&2
    exit 2
}

component_do_up() {
    need "${PACKAGES[@]}"
    if ! component_alive; then
        # Half of it may live (one of two daemons): start from a known state.
        component_stop
        if ! component_start; then
            echo "error: $(basename "$0") did not start in $DIR; what its logs say last:" >&2
            find "$DIR" -maxdepth 1 -name '*.log' -exec tail -v -n 8 {} + >&2
            component_stop
            return 1
        fi
    fi
    component_variables >"$DIR/env.new"
    mv "$DIR/env.new" "$DIR/env"
    cat "$DIR/env"
}

component_do_down() {
    component_stop
}

component_do_kill() {
    component_kill
}

component_do_status() {
    if component_alive; then
        echo running
    else
        echo stopped
        return 3
    fi
}
