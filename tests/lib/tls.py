"""Certificates for tests, made with openssl: an Authority signs servers' certificates."""
import os
import subprocess


def _openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=120)


class Authority:
    """A certificate authority in a folder; self.ca is its PEM file."""

    def __init__(self, folder, name="test CA"):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.ca = os.path.join(folder, "ca.pem")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign", folder=folder)

    def server(self, *hosts, name="server", days=2):
        """(certificate file, key file) valid for these DNS names and IP addresses; days=-1: no more since yesterday."""
        alternatives = ",".join(f"IP:{h}" if h.replace(".", "").isdigit() or ":" in h else f"DNS:{h}" for h in hosts)
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={hosts[0]}",
                 "-keyout", f"{name}.key", "-out", f"{name}.csr", folder=self.folder)
        with open(os.path.join(self.folder, f"{name}.ext"), "w") as f:
            f.write(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n")
        _openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days),
                 "-extfile", f"{name}.ext", "-out", f"{name}.pem", folder=self.folder)
        for file in (f"{name}.key", f"{name}.pem"):
            os.chmod(os.path.join(self.folder, file), 0o644)
        return os.path.join(self.folder, f"{name}.pem"), os.path.join(self.folder, f"{name}.key")
