#!/usr/bin/env bash
# Make the machine ready: QGIS from the distribution where it is missing, then .venv with everything else.
# Called by every make target; does nothing where all is in place.
set -euo pipefail
cd "$(dirname "$0")/.."

# /usr/bin/python3 is the Python that QGIS's bindings are built for; another may come first on the PATH.
python=/usr/bin/python3
system_packages=(
    qgis python3-qgis qgis-providers  # QGIS, qgis_process and their Python
    python3-venv
    pyqt5-dev-tools                   # pyrcc5, which checks the resources
    python3-pyqtgraph                 # the plot of the profile dock
    xvfb xauth openbox xdotool        # screenshots, with real mouse events
)

install_system_packages() {
    local missing=() package
    if ! command -v dpkg-query apt-get >/dev/null; then
        echo "This set-up knows Debian 12 only. Elsewhere, run the steps of tools/set_up.sh by hand." >&2
        exit 1
    fi
    for package in "${system_packages[@]}"; do
        [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        echo "These packages are missing, and only root can install them. Run as root, then try again:" >&2
        echo "    apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes --no-install-recommends "${missing[@]}"
}

# The stamp holds what the environment was made from, and is written last. An environment without it is
# half-made and made anew; one with another stamp is brought up to date in place, as it may be in use.
make_environment() {
    local stamp=.venv/made-from wanted
    wanted="$(cat requirements.txt requirements-dev.txt constraints.txt | sha256sum)"
    [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]] && return 0
    if [[ -f "$stamp" ]]; then
        echo "Bringing the Python environment .venv up to date"
        rm "$stamp"
    else
        echo "Making the Python environment .venv"
        "$python" -m venv --clear --system-site-packages .venv
    fi
    .venv/bin/python -m pip install --constraint constraints.txt --requirement requirements-dev.txt
    echo "$wanted" >"$stamp"
}

install_system_packages
make_environment
