"""An SMTP server that stores every mail in a Maildir and delivers none.

For tests and trials: what Sexton mails can be read where it arrived. The envelope is kept as X-Envelope-From and
X-Envelope-To headers. A recipient whose name begins with "refuse" is answered 550, with "defer" 451, so that bounces
can be tried.

usage: mail-sink.py ADDRESS:PORT MAILDIR
"""

import asyncio
import itertools
import os
import re
import socket
import sys
import time

# Longer than any line of SMTP or of a mail (RFC 5321: 1000), and a bound on what one client can make us hold.
LINE_LIMIT = 64 * 1024
MESSAGE_LIMIT = 16 * 1024 * 1024
# As RFC 5321, 4.5.3.2.7 asks of servers.
IDLE_SECONDS = 300

numbers = itertools.count(1)


class Session:
    def __init__(self, reader, writer, maildir):
        self.reader, self.writer, self.maildir = reader, writer, maildir
        self.reset()

    def reset(self):
        self.sender, self.recipients = None, []

    async def answer(self, text):
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def line(self):
        return await asyncio.wait_for(self.reader.readline(), IDLE_SECONDS)

    async def run(self):
        await self.answer("220 mail-sink ESMTP")
        while line := await self.line():
            verb, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
            verb = verb.upper()
            if verb == "QUIT":
                return await self.answer("221 bye")
            await getattr(self, "on_" + verb.lower(), self.on_unknown)(argument.strip())

    async def on_unknown(self, _):
        await self.answer("500 unknown command")

    async def on_ehlo(self, _):
        self.reset()
        await self.answer(f"250-mail-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n250 SIZE {MESSAGE_LIMIT}")

    async def on_helo(self, _):
        self.reset()
        await self.answer("250 mail-sink")

    async def on_noop(self, _):
        await self.answer("250 ok")

    async def on_rset(self, _):
        self.reset()
        await self.answer("250 ok")

    async def on_mail(self, argument):
        match = re.match(r"FROM:\s*<([^>\s]*)>", argument, re.I)
        if not match:
            return await self.answer("501 expected MAIL FROM:<address>")
        self.reset()
        self.sender = match[1]
        await self.answer("250 ok")

    async def on_rcpt(self, argument):
        match = re.match(r"TO:\s*<([^>\s]+)>", argument, re.I)
        if self.sender is None:
            await self.answer("503 MAIL first")
        elif not match:
            await self.answer("501 expected RCPT TO:<address>")
        elif match[1].lower().startswith("refuse"):
            await self.answer("550 5.1.1 no such mailbox")
        elif match[1].lower().startswith("defer"):
            await self.answer("451 4.3.0 try again later")
        else:
            self.recipients.append(match[1])
            await self.answer("250 ok")

    async def on_data(self, _):
        if not self.recipients:
            return await self.answer("503 RCPT first")
        await self.answer("354 end with a line that holds a dot only")
        lines, size = [], 0
        while (line := await self.line()) not in (b".\r\n", b".\n"):
            if not line:
                return  # the client went away in the middle: there is no mail
            size += len(line)
            if size <= MESSAGE_LIMIT:
                lines.append(line[1:] if line.startswith(b".") else line)
        if size > MESSAGE_LIMIT:
            await self.answer("552 too big")
        else:
            self.store(b"".join(lines))
            await self.answer("250 stored")
        self.reset()

    def store(self, body):
        envelope = [f"X-Envelope-From: {self.sender}"] + [f"X-Envelope-To: {to}" for to in self.recipients]
        name = f"{time.time():.6f}.{os.getpid()}_{next(numbers)}.{socket.gethostname()}"
        unfinished = os.path.join(self.maildir, "tmp", name)
        with open(unfinished, "wb") as file:
            file.write("".join(line + "\r\n" for line in envelope).encode() + body)
        os.rename(unfinished, os.path.join(self.maildir, "new", name))


async def serve(host, port, maildir):
    for folder in ("tmp", "new", "cur"):
        os.makedirs(os.path.join(maildir, folder), exist_ok=True)

    async def on_connection(reader, writer):
        try:
            await Session(reader, writer, maildir).run()
        except (ConnectionError, ValueError, asyncio.TimeoutError) as error:
            print(f"connection ended: {error!r}", flush=True)
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, host, port, limit=LINE_LIMIT)
    await server.serve_forever()


def main():
    if len(sys.argv) != 3 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    host, _, port = sys.argv[1].rpartition(":")
    asyncio.run(serve(host, int(port), sys.argv[2]))


main()
