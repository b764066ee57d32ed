#!/usr/bin/env python3
"""The wire of docs/protocol.md once more, written from that page alone, in plain Python.

    spa.py selftest        the primitives on their published vectors
    spa.py check FILE...   vector files: accepted and refused as they say
    spa.py vectors DIR     write all vector files below DIR
    spa.py decode          JSON lines in (keys, kind, datagram), JSON lines out (a meaning or a defect)
    spa.py encode          JSON lines in (keys, kind, nonce, meaning), JSON lines out (a datagram)

For tests only: it keeps no secret and runs in no constant time.
"""

import hmac
import ipaddress
import json
import sys

sys.dont_write_bytecode = True

from primitive import chacha20, halfsip, hkdf_expand, hkdf_extract, hmac_sha256, xchacha_open, xchacha_seal, xor

SIZE, BODY, REQUEST, REPLY = 288, 204, 96, 216
ACTIONS = {1: "open", 2: "close"}
STATUSES = {1: "open", 2: "closed", 3: "refused", 4: "failed", 5: "busy"}
WANTED, REPLACE = 1, 2
SOURCE, V4, V6 = 1, 2, 4
PROTOCOLS = {6: "tcp", 17: "udp"}
UNUSABLE = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 ::/127 ::ffff:0:0/96 fe80::/10 ff00::/8"
    ).split()
]


class Defect(Exception):
    """Why a datagram is refused: the name of the check that fails first."""


class Keys:
    """The four secrets and names of a client and its server, and the six keys made of them."""

    def __init__(self, server_id, door_key, client_id, client_key):
        sizes = [len(x) for x in (server_id, door_key, client_id, client_key)]
        if sizes != [16, 32, 8, 32]:
            raise ValueError(f"keys of {sizes} bytes")
        self.server_id, self.client_id = server_id, client_id
        salt = b"opensesame-spa/1" + server_id
        door = hkdf_extract(salt, door_key)
        self.admit = hkdf_expand(door, b"admit", 8)
        self.mask = hkdf_expand(door, b"mask", 32)
        client = hkdf_extract(salt, client_key)
        own = lambda label: hkdf_expand(client, label + b"\0" + client_id, 32)
        self.seal, self.mac = own(b"seal"), own(b"mac")
        self.reply_seal, self.reply_mac = own(b"reply-seal"), own(b"reply-mac")

    @classmethod
    def read(cls, item):
        """The keys of a vector file or of one line."""
        return cls(*(bytes.fromhex(item[k]) for k in ("server_id", "door_key", "client_id", "client_key")))


def unsigned(data, at, size):
    """The big-endian number of `size` bytes at offset `at`."""
    return int.from_bytes(data[at : at + size], "big")


def must(right):
    """Refuses what is not right in the one encoding."""
    if not right:
        raise Defect("encoding")


def masked(keys, nonce, name):
    """A client id behind its mask, or back from there."""
    return xor(name, chacha20(keys.mask, 0, nonce[12:24], bytes(8)))


def read_address(flag, length, raw, kind, shortest):
    """One explicit prefix as text, or None if its bit says that there is none."""
    if not flag:
        must(length == 0 and not any(raw))
        return None
    must(shortest <= length <= 8 * len(raw))
    address = kind(raw)
    must(int(address) & ((1 << (8 * len(raw) - length)) - 1) == 0)
    network = ipaddress.ip_network((address, length))
    must(not any(n.version == network.version and n.overlaps(network) for n in UNUSABLE))
    return str(address) if length == 8 * len(raw) else str(network)


def read_service(raw):
    """One service as text."""
    kind, zero, first, last = raw[0], raw[1], unsigned(raw, 2, 2), unsigned(raw, 4, 2)
    must(zero == 0)
    if kind == 1:
        return "#" + raw[2:6].hex()
    must(kind in PROTOCOLS and 1 <= first <= last)
    return f"{PROTOCOLS[kind]}/{first}" + ("" if first == last else f"-{last}")


def read_object(bits, lengths, body):
    """What requests and replies have in common: bytes 24..96 of a body, read with the bits that say
    which addresses there are and the three numbers: both prefix lengths and how many services."""
    v4 = read_address(bits & V4, lengths[0], body[24:28], ipaddress.IPv4Address, 8)
    v6 = read_address(bits & V6, lengths[1], body[28:44], ipaddress.IPv6Address, 32)
    count = lengths[2]
    must(count <= 8 and not any(body[44 + 6 * count : 96]))
    services = [body[44 + 6 * i : 50 + 6 * i] for i in range(count)]
    must(all(a < b for a, b in zip(services, services[1:])))
    return {"v4": v4, "v6": v6, "services": [read_service(s) for s in services]}


def read_request(body):
    """The meaning of the plaintext of a request."""
    version, action, flags, bits = body[0], body[1], unsigned(body, 2, 2), body[4]
    time, ttl = unsigned(body, 8, 8), unsigned(body, 16, 4)
    must(version == 1 and action in ACTIONS and flags & ~(WANTED | REPLACE) == 0)
    must(1 <= bits <= 6)
    must(time < 1 << 47 and (action == 1 or ttl == 0))
    must(not any(body[20:24]) and not any(body[REQUEST:]))
    where = read_object(bits, body[5:8], body)
    return {
        "action": ACTIONS[action],
        "reply": bool(flags & WANTED),
        "replace": bool(flags & REPLACE),
        "source": bool(bits & SOURCE),
        **where,
        "time": time,
        "ttl": ttl,
    }


def read_reply(body):
    """The meaning of the plaintext of a reply."""
    version, status, bits = body[0], body[1], body[20]
    time, until = unsigned(body, 4, 8), unsigned(body, 12, 8)
    must(version == 1 and status in STATUSES and not any(body[2:4]))
    must(time < 1 << 47 and until < 1 << 47)
    must(bits in (V4, V6, V4 | V6) and not any(body[92:]))
    where = read_object(bits, body[21:24], body)
    return {"status": STATUSES[status], "time": time, "until": until, **where}


def decode(keys, kind, datagram, request_hmac=None):
    """The meaning of a datagram, or a Defect."""
    if len(datagram) != SIZE:
        raise Defect("length")
    if kind == "reply":
        said, seal, mac = request_hmac + datagram[:256], keys.reply_seal, keys.reply_mac
        start, data, read = 24, keys.server_id + request_hmac, read_reply
    else:
        if halfsip(keys.admit, datagram[:8]) != datagram[24:28]:
            raise Defect("admission")
        if masked(keys, datagram[:24], datagram[28:36]) != keys.client_id:
            raise Defect("client")
        said, seal, mac = datagram[:256], keys.seal, keys.mac
        start, data, read = 36, keys.server_id + datagram[:36], read_request
    if not hmac.compare_digest(hmac_sha256(mac, said), datagram[256:]):
        raise Defect("hmac")
    body = xchacha_open(seal, datagram[:24], data, datagram[start:256])
    if body is None:
        raise Defect("seal")
    return read(body)


def write_address(text, kind):
    """The prefix length and the bytes of an explicit prefix."""
    if text is None:
        return 0, bytes(kind(0).packed)
    address, _, length = text.partition("/")
    raw = kind(address).packed
    return int(length or 8 * len(raw)), raw


def write_service(text):
    """The six bytes of a service."""
    if text.startswith("#"):
        return bytes([1, 0]) + bytes.fromhex(text[1:])
    protocol, _, ports = text.partition("/")
    first, _, last = ports.partition("-")
    kind = {name: n for n, name in PROTOCOLS.items()}[protocol]
    return bytes([kind, 0]) + int(first).to_bytes(2, "big") + int(last or first).to_bytes(2, "big")


def write_object(meaning):
    """The four bytes about the addresses and the services, and bytes 24..96 of a body."""
    length4, v4 = write_address(meaning["v4"], ipaddress.IPv4Address)
    length6, v6 = write_address(meaning["v6"], ipaddress.IPv6Address)
    bits = SOURCE * bool(meaning.get("source")) | V4 * (meaning["v4"] is not None) | V6 * (meaning["v6"] is not None)
    services = b"".join(write_service(s) for s in meaning["services"])
    return bytes([bits, length4, length6, len(meaning["services"])]), v4 + v6 + services.ljust(52, b"\0")


def code(names, name):
    """The number that stands for a name."""
    return next(n for n, text in names.items() if text == name)


def write_request(meaning):
    """The plaintext of a request, 204 bytes."""
    head, rest = write_object(meaning)
    flags = WANTED * meaning["reply"] | REPLACE * meaning["replace"]
    numbers = meaning["time"].to_bytes(8, "big") + meaning["ttl"].to_bytes(4, "big") + bytes(4)
    request = bytes([1, code(ACTIONS, meaning["action"]), 0, flags]) + head + numbers + rest
    return request + bytes(BODY - REQUEST)


def write_reply(meaning):
    """The plaintext of a reply, 216 bytes."""
    head, rest = write_object(meaning)
    times = meaning["time"].to_bytes(8, "big") + meaning["until"].to_bytes(8, "big")
    reply = bytes([1, code(STATUSES, meaning["status"]), 0, 0]) + times + head + rest
    return reply + bytes(REPLY - len(reply))


def request_head(keys, nonce):
    """The first 36 bytes of a request."""
    return nonce + halfsip(keys.admit, nonce[:8]) + masked(keys, nonce, keys.client_id)


def seal_request(keys, nonce, body):
    """The datagram of a request around any plaintext of 204 bytes."""
    head = request_head(keys, nonce)
    said = head + xchacha_seal(keys.seal, nonce, keys.server_id + head, body)
    return said + hmac_sha256(keys.mac, said)


def seal_reply(keys, nonce, body, request_hmac):
    """The datagram of a reply around any plaintext of 216 bytes."""
    said = nonce + xchacha_seal(keys.reply_seal, nonce, keys.server_id + request_hmac, body)
    return said + hmac_sha256(keys.reply_mac, request_hmac + said)


def encode(keys, kind, nonce, meaning, request_hmac=None):
    """The datagram of a meaning; refuses what the wire cannot say."""
    if kind == "reply":
        datagram = seal_reply(keys, nonce, write_reply(meaning), request_hmac)
    else:
        datagram = seal_request(keys, nonce, write_request(meaning))
    if decode(keys, kind, datagram, request_hmac) != meaning:
        raise ValueError(f"not in the one form of a meaning: {meaning}")
    return datagram


def request_hmac(item):
    """The HMAC of the request that a reply answers."""
    return bytes.fromhex(item["request_hmac"]) if item["kind"] == "reply" else None


def try_decode(item):
    """A meaning, or an object with a defect."""
    try:
        return decode(Keys.read(item), item["kind"], bytes.fromhex(item["datagram"]), request_hmac(item))
    except Defect as defect:
        return {"defect": str(defect)}


def check(path):
    """What is wrong with a vector file, or None."""
    with open(path, encoding="utf-8") as file:
        item = json.load(file)
    found = try_decode(item)
    if ("meaning" in item) == ("defect" in item):
        return "neither a vector to accept nor one to refuse"
    if "defect" in item:
        return None if found == {"defect": item["defect"]} else f"says {item['defect']}, but {found}"
    if found != item["meaning"]:
        return f"decodes to {found}"
    nonce = bytes.fromhex(item["datagram"])[:24]
    again = encode(Keys.read(item), item["kind"], nonce, item["meaning"], request_hmac(item))
    return None if again.hex() == item["datagram"] else f"is written as {again.hex()}"


def encode_line(item):
    """The datagram that a line asks for."""
    nonce = bytes.fromhex(item["nonce"])
    return {"datagram": encode(Keys.read(item), item["kind"], nonce, item["meaning"], request_hmac(item)).hex()}


def main(arguments):
    """Runs one command; the exit code is 1 if anything is wrong."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "selftest" and not rest:
        from primitive import selftest

        results = list(selftest())
        wrong = [f"{name}: {got!r} is not {published!r}" for name, got, published in results if got != published]
        print(f"{len(results) - len(wrong)} of {len(results)} published vectors are met")
    elif command == "check" and rest:
        results = [(path, check(path)) for path in rest]
        wrong = [f"{path}: {why}" for path, why in results if why]
        print(f"{len(rest) - len(wrong)} of {len(rest)} files are right")
    elif command == "vectors" and len(rest) == 1:
        from vectors import write

        wrong = write(rest[0])
    elif command in ("decode", "encode") and not rest:
        for line in sys.stdin:
            item = json.loads(line)
            print(json.dumps(try_decode(item) if command == "decode" else encode_line(item)), flush=True)
        wrong = []
    else:
        wrong = [__doc__]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.modules["spa"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
