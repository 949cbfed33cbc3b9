# shellcheck shell=bash
# Chooses free ports on the loopback, and remembers them in a component's folder so that a restart uses them again.

# Below the range from which Linux takes the ports of outgoing connections: those come and go, and would now and then
# sit on a port that a stopped component wants back.
PORTS_FROM=20000
PORTS_COUNT=12000

# port DIR NAME : the port that DIR uses under this name. Chosen at first use; kept while nobody else listens on it.
# Call it only while the component is not running: its own listening port would look taken.
port() {
    local file=$1/ports chosen
    chosen=$(sed -n "s/^$2=//p" "$file" 2>/dev/null || true)
    if [ -n "$chosen" ] && port_taken "$chosen"; then
        echo "note: port $chosen ($2 of $1) is used by another program now; taking a new one" >&2
        sed -i "/^$2=/d" "$file"
        chosen=
    fi
    if [ -z "$chosen" ]; then
        chosen=$(free_port "$file")
        echo "$2=$chosen" >>"$file"
    fi
    echo "$chosen"
}

# saved_port DIR NAME : the port chosen earlier.
saved_port() {
    sed -n "s/^$2=//p" "$1/ports"
}

# free_port [FILE] : a random port nobody listens on, and which FILE does not name. Random, so that two components
# started at the same moment hardly ever choose the same.
free_port() {
    local tries candidate
    for ((tries = 0; tries < 1000; tries++)); do
        candidate=$((PORTS_FROM + (RANDOM * 32768 + RANDOM) % PORTS_COUNT))
        port_taken "$candidate" && continue
        [ -n "${1:-}" ] && grep -qs "=$candidate\$" "$1" && continue
        echo "$candidate"
        return 0
    done
    echo "error: no free port between $PORTS_FROM and $((PORTS_FROM + PORTS_COUNT))" >&2
    return 1
}

# port_taken PORT : whether anybody listens on the port (TCP state 0A) or has bound it (UDP), on any address.
port_taken() {
    local hex
    hex=$(printf ':%04X ' "$1")
    grep -hs "^ *[0-9]*: [0-9A-F]*${hex}[0-9A-F]*:[0-9A-F]* 0A" /proc/net/tcp /proc/net/tcp6 >/dev/null ||
        grep -hs "^ *[0-9]*: [0-9A-F]*${hex}" /proc/net/udp /proc/net/udp6 >/dev/null
}

# port_answers PORT : whether a TCP connection to the port of the loopback is accepted.
port_answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
