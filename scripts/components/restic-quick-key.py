"""Gives a restic repository a key that opens quickly.

restic makes guessing a password slow: each call spends a third of a second on it. That is right for a backup, and
too slow for a test that calls it a thousand times. This puts the repository's own master key under the same password
again, derived with the least effort restic accepts, and removes the slow key. For repositories of tests only.

A key file is described in restic's design document: scrypt gives 64 bytes, of which 32 are for AES-256-CTR and 32 for
Poly1305-AES; the data are a nonce, the ciphertext and the authenticator.

usage: restic-quick-key.py REPOSITORY PASSWORD_FILE
"""

import base64
import hashlib
import json
import os
import subprocess
import sys

# The least that restic's own tests use.
N, R, P = 128, 1, 1
PRIME = (1 << 130) - 5
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF


def openssl(data, *arguments):
    return subprocess.run(["openssl", "enc", *arguments], input=data, check=True, stdout=subprocess.PIPE).stdout


def poly1305_aes(message, k, r, nonce):
    encrypted = openssl(nonce, "-aes-128-ecb", "-nopad", "-K", k.hex())
    factor, sum_ = int.from_bytes(r, "little") & CLAMP, 0
    for start in range(0, len(message), 16):
        sum_ = (sum_ + int.from_bytes(message[start : start + 16] + b"\x01", "little")) * factor % PRIME
    return ((sum_ + int.from_bytes(encrypted, "little")) % (1 << 128)).to_bytes(16, "little")


def seal(plain, password):
    salt, nonce = os.urandom(64), os.urandom(16)
    derived = hashlib.scrypt(password, salt=salt, n=N, r=R, p=P, dklen=64)
    encrypt, mac_k, mac_r = derived[:32], derived[32:48], derived[48:]
    cipher = openssl(plain, "-aes-256-ctr", "-K", encrypt.hex(), "-iv", nonce.hex())
    return salt, nonce + cipher + poly1305_aes(cipher, mac_k, mac_r, nonce)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    repository, password_file = sys.argv[1:]
    with open(password_file, "rb") as file:
        password = file.read().strip()
    restic = ["restic", "--no-cache", "--repo", repository, "--password-file", password_file]
    master = subprocess.run([*restic, "cat", "masterkey"], check=True, stdout=subprocess.PIPE).stdout
    # The key file holds it without blanks.
    plain = json.dumps(json.loads(master), separators=(",", ":")).encode()
    folder = os.path.join(repository, "keys")
    slow = os.listdir(folder)
    with open(os.path.join(folder, slow[0]), "rb") as file:
        key = json.load(file)
    salt, data = seal(plain, password)
    key.update(N=N, r=R, p=P, salt=base64.b64encode(salt).decode(), data=base64.b64encode(data).decode())
    text = json.dumps(key).encode()
    # A key is called by the hash of its file.
    with open(os.path.join(folder, hashlib.sha256(text).hexdigest()), "wb") as file:
        file.write(text)
    for name in slow:
        os.remove(os.path.join(folder, name))
    subprocess.run([*restic, "cat", "config"], check=True, stdout=subprocess.DEVNULL)


main()
