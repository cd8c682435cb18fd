"""Send mail, one message a task. The input is JSON lines with `to`, `subject` and `body`.

    SMTP_HOST=mail.example.org python worker.py examples.mail
    python ventilator.py examples.mail:send messages.jsonl

Each message is sent once in a run without faults. When a worker is killed in the middle, its tasks are executed again,
and a message that the server had accepted by then is sent twice: so the Message-ID is made of the message itself, and
a mail system that drops repeated ids drops the second.
"""

import hashlib
import os
import smtplib
import ssl
from email.message import EmailMessage


def send(message: dict[str, str]) -> str:
    """Send one message through SMTP_HOST:SMTP_PORT (default localhost:25) from SMTP_FROM; returns its Message-ID."""
    sender = os.environ.get("SMTP_FROM", "tradewind@localhost")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, message["to"], message["subject"]
    mail.set_content(message["body"])
    digest = hashlib.sha256("\0".join([sender, *map(message.__getitem__, ("to", "subject", "body"))]).encode())
    mail["Message-ID"] = f"<{digest.hexdigest()[:32]}@{sender.rpartition('@')[2]}>"
    host, port = os.environ.get("SMTP_HOST", "localhost"), int(os.environ.get("SMTP_PORT", "25"))
    with smtplib.SMTP(host, port, timeout=30) as server:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
        if user := os.environ.get("SMTP_USER"):
            server.login(user, os.environ["SMTP_PASSWORD"])
        server.send_message(mail)
    return str(mail["Message-ID"])
