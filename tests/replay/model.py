#!/usr/bin/env python3
"""Model of the rules in docs/replay.md: no packet is accepted twice, through kill -9, power loss and clock steps.

    model.py                        4,000 histories each of all rules and of three with one rule left out (about 30 s): the first
                                    line must say 0 double accepts, the others must not
    model.py histories FIRST END    the histories of the seeds FIRST <= seed < END as lines, with the model's verdict on each arrival

A history: `history SEED`, then one event a line, then `end`. Times are milliseconds.

    step N              both clocks go on
    send ID T VERDICT   a client makes packet ID dated T and it arrives; `-` for a verdict: it is lost on the way
    replay ID VERDICT   a copy of packet ID arrives
    kill                kill -9, and a start in the same boot
    power N             power loss, N more before the start in a new boot
    offset N            the wall clock is from now on N away from the truth
    prune               what is too old is forgotten
    rotate              a new segment of the journal
"""
import random
import sys

P = F = 60_000
LEAD = 5_000
SLACK = 1_000
BUCKET = 1_024
SKEW = [0, 200, -900, 3000, -8000, 40000, -40000]


class Disk:
    """Records: ('seen', T, n), ('H', h), ('G', g), ('boot', ..); a removed segment is a removal of old seen records."""

    def __init__(self):
        self.durable = []
        self.volatile = []

    def append(self, record):
        self.volatile.append(record)

    def sync(self):
        self.durable += self.volatile
        self.volatile = []

    def power(self):
        """Any subset of what was not synced may survive."""
        self.durable += [r for r in self.volatile if random.random() < 0.5]
        self.volatile = []


class Server:
    """The rules at their plainest; `variant` leaves one out."""

    def __init__(self, disk, boot, wall, bt, variant=0):
        self.disk, self.variant = disk, variant
        self.cache, self.G, self.H, self.S = {}, 0, 0, None
        records = disk.durable + disk.volatile
        for r in records:
            if r[0] == 'seen':
                self.cache[r[2]] = r[1]
            elif r[0] == 'H':
                self.H = max(self.H, r[1])
            else:
                self.G = max(self.G, r[1])
        if [r[1] for r in records if r[0] == 'boot'][-1:] != [boot]:
            if variant != 1:
                self.G = max(self.G, self.H)
            self.S = bt
            disk.append(('boot', boot))
            disk.append(('G', self.G))
            disk.sync()

    def floor(self, wall, bt):
        return max(self.G, wall - (bt - self.S) if self.S is not None else 0)

    def accept(self, n, T, wall, bt):
        if T < wall - P:
            return 'stale'
        if T > wall + F:
            return 'early'
        if T <= self.floor(wall, bt):
            return 'floor'
        if n in self.cache:
            return 'replay'
        self.cache[n] = T
        self.disk.append(('seen', T, n))
        if T > self.H:  # the slow path: one sync makes the record and a new horizon durable
            h = wall + LEAD
            if self.variant != 2:
                self.disk.append(('H', h))
                self.disk.sync()
                self.H = max(self.H, h)
        return 'ok'

    def prune(self, wall):
        for n, T in list(self.cache.items()):
            if T < wall - P - SLACK:
                self.G = max(self.G, T) if self.variant != 3 else self.G
                del self.cache[n]

    def rotate(self, wall):
        """The floor is durable before the old segment's records are given up."""
        self.prune(wall)
        self.disk.append(('G', self.G))
        self.disk.sync()
        self.disk.durable = [r for r in self.disk.durable if r[0] != 'seen' or r[2] in self.cache]


class Exact:
    """The rules as the program has them: packets are forgotten by buckets and at each arrival, S is carried over a restart in
    the same boot, the horizon is moved before it is reached, and no horizon is relied on that this process has not synced."""

    def __init__(self, disk, boot, wall, bt):
        self.disk = disk
        self.buckets, self.G, self.promised, self.H, self.S = {}, 0, 0, 0, bt
        last = None
        for r in disk.durable + disk.volatile:
            if r[0] == 'seen':
                self.buckets.setdefault(r[1] // BUCKET, {})[r[2]] = r[1]
            elif r[0] == 'H':
                self.promised = max(self.promised, r[1])
            elif r[0] == 'G':
                self.G = max(self.G, r[1])
            else:
                last = r
        if last and last[1] == boot:
            self.S = last[2]
        else:
            self.G = max(self.G, self.promised)
            disk.append(('boot', boot, bt))
            disk.append(('G', self.G))
            disk.sync()
        self.prune(wall)

    def accept(self, n, T, wall, bt):
        self.prune(wall)
        if T < wall - P:
            return 'stale'
        if T > wall + F:
            return 'early'
        if T <= self.G or T <= wall - (bt - self.S):
            return 'floor'
        bucket = self.buckets.setdefault(T // BUCKET, {})
        if n in bucket:
            return 'replay'
        bucket[n] = T
        self.disk.append(('seen', T, n))
        if T > self.H - LEAD // 2:
            self.promised = max(self.promised, wall + LEAD)
            self.disk.append(('H', self.promised))
            self.disk.sync()
            self.H = self.promised
        return 'ok'

    def prune(self, wall):
        oldest = (wall - P - SLACK) // BUCKET
        for b in [b for b in self.buckets if b < oldest]:
            self.G = max([self.G, *self.buckets.pop(b).values()])

    def rotate(self, wall):
        self.prune(wall)
        self.disk.append(('G', self.G))
        self.disk.sync()
        kept = {n for bucket in self.buckets.values() for n in bucket}
        self.disk.durable = [r for r in self.disk.durable if r[0] != 'seen' or r[2] in kept]


def history(seed, make, steps=400, clocksteps=True, say=None):
    """One random history; the outcome, the number of honest packets and what became of them."""
    random.seed(seed)
    say = say or (lambda *_: None)
    true, off, boot, bt, disk, n = 10**9, 0, 1, 0, Disk(), 0
    server = make(disk, boot, true, bt)
    sent, accepted, honest, why = [], {}, 0, {}
    for _ in range(steps):
        dt = random.choice([1, 10, 300, 2000, 9000, 70000])
        true += dt
        bt += dt
        wall = true + off
        say('step', dt)
        a = random.random()
        if a < 0.35:
            n += 1
            T = true + random.choice(SKEW)
            sent.append((n, T))
            honest += 1
            verdict = '-'
            if random.random() < 0.85:
                verdict = server.accept(n, T, wall, bt)
                why[verdict] = why.get(verdict, 0) + 1
                if verdict == 'ok':
                    accepted[n] = accepted.get(n, 0) + 1
            say('send', n, T, verdict)
        elif a < 0.75 and sent:
            for m, T in random.sample(sent, min(len(sent), 8)):
                verdict = server.accept(m, T, wall, bt)
                if verdict == 'ok':
                    accepted[m] = accepted.get(m, 0) + 1
                say('replay', m, verdict)
        elif a < 0.80:
            server = make(disk, boot, wall, bt)
            say('kill')
        elif a < 0.84:
            disk.power()
            boot += 1
            pause = random.choice([0, 500, 3000, 30000])
            true += pause
            bt = 0
            server = make(disk, boot, true + off, bt)
            say('power', pause)
        elif a < 0.90 and clocksteps:
            off = random.choice([0, 0, 0, -1000, 1000, -86400_000, 86400_000, -50_000, 50_000])
            say('offset', off)
        elif a < 0.95:
            server.prune(wall)
            say('prune')
        else:
            server.rotate(wall)
            say('rotate')
        if any(v > 1 for v in accepted.values()):
            return 'DOUBLE', honest, why
    return 'ok', honest, why


def emit(first, end):
    for seed in range(first, end):
        lines = [f'history {seed}']
        outcome, _, _ = history(seed, Exact, say=lambda *words: lines.append(' '.join(map(str, words))))
        if outcome != 'ok':
            sys.exit(f'the model itself accepts twice: seed {seed}')
        lines.append('end\n')
        sys.stdout.write('\n'.join(lines))


def variants():
    names = ['algorithm', 'no horizon at lossy boot', 'no slow path', 'no floor from pruned entries']
    for v, name in enumerate(names):
        plain = lambda disk, boot, wall, bt: Server(disk, boot, wall, bt, v)
        outcomes = [history(seed, plain)[0] for seed in range(4000)]
        print(name, 'runs', len(outcomes), 'double accepts', outcomes.count('DOUBLE'))
    outcomes = [history(seed, Exact)[0] for seed in range(4000)]
    print('as the program has it', 'runs', len(outcomes), 'double accepts', outcomes.count('DOUBLE'))
    total = {}
    for seed in range(2000):
        for verdict, count in history(seed, Server, clocksteps=False)[2].items():
            total[verdict] = total.get(verdict, 0) + count
    print('honest packets without clock steps (skews up to 40 s, power loss every ~25 events):', total)


if __name__ == '__main__':
    if sys.argv[1:2] == ['histories']:
        emit(int(sys.argv[2]), int(sys.argv[3]))
    else:
        variants()
