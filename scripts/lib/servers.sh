# shellcheck shell=bash
# The servers that tests need: private instances of components, and the variables that say where they are.
#
# Whoever uses it sets the array `components`, and `dir`, the folder below which they keep their data.

# Names of the Debian packages that they need.
component_packages() {
    local component
    for component in "${components[@]}"; do scripts/components/"$component" packages; done
}

start_components() {
    local component
    for component in "${components[@]}"; do
        echo "== $component"
        scripts/components/"$component" up "$dir/$component" || return 1
    done
}

# All of them, also if one does not stop.
stop_components() {
    local component code=0
    for component in "${components[@]}"; do
        scripts/components/"$component" down "$dir/$component" || code=1
    done
    return "$code"
}

# of COMPONENT VARIABLE : the value that the component printed.
of() (
    # shellcheck source=/dev/null
    . "$dir/$1/env"
    echo "${!2}"
)

# shellcheck disable=SC2034 # the last line exports them all
export_variables() {
    local component
    for component in "${components[@]}"; do
        case $component in
            postgres) SEXTON_TEST_PG=$(of postgres PG_URL) ;;
            rabbitmq)
                SEXTON_TEST_AMQP=$(of rabbitmq AMQP_URL)
                SEXTON_TEST_RABBIT_MGMT=$(of rabbitmq RABBIT_MGMT_URL)
                ;;
            bind)
                SEXTON_TEST_DNS_SERVER=$(of bind DNS_SERVER)
                SEXTON_TEST_DNS_KEY_NAME=$(of bind DNS_KEY_NAME)
                SEXTON_TEST_DNS_KEY_SECRET=$(of bind DNS_KEY_SECRET)
                SEXTON_TEST_DNS_KEY_ALGORITHM=$(of bind DNS_KEY_ALGORITHM)
                ;;
            kea) SEXTON_TEST_KEA_URL=$(of kea KEA_URL) ;;
            prometheus)
                SEXTON_TEST_PROMETHEUS_URL=$(of prometheus PROMETHEUS_URL)
                SEXTON_TEST_PROMETHEUS_TARGETS=$(of prometheus PROMETHEUS_TARGETS)
                ;;
            mail)
                SEXTON_TEST_SMTP_URL=$(of mail SMTP_URL)
                SEXTON_TEST_MAILDIR=$(of mail MAILDIR)
                ;;
            qemu)
                SEXTON_TEST_QEMU_POLITE=$(of qemu QEMU_POLITE)
                SEXTON_TEST_QEMU_STUBBORN=$(of qemu QEMU_STUBBORN)
                ;;
        esac
    done
    SEXTON_TEST_RABBIT_DIR=$dir/brokers
    export "${!SEXTON_TEST_@}"
}
