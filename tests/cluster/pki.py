"""Certificates of a test's own, made by `connectctl cert` as the manual shows it."""

import os
import subprocess

from harness import BUILD_DIR, check

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")


class Authority:
    """A CA with its files in a directory."""

    def __init__(self, directory, name="pki", cluster="test"):
        self.directory = os.path.join(directory, name)
        self.cluster = cluster
        self.run("ca", self.directory)
        self.certificate = os.path.join(self.directory, "ca.pem")
        self.revoked = os.path.join(self.directory, "revoked.pem")

    @staticmethod
    def run(*words):
        done = subprocess.run([CONNECTCTL, "cert", *words], capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"connectctl cert {' '.join(words)}: {done.returncode} {done.stderr}")
        return done.stdout

    def files(self, name):
        """(certificate, key) of a node ("node-1") or a client ("client-app")."""
        return os.path.join(self.directory, f"{name}.pem"), os.path.join(self.directory, f"{name}.key")

    def node(self, node_id, cluster=None):
        self.run("node", str(node_id), "--dir", self.directory, "--cluster-name", cluster or self.cluster,
                 "--host", "127.0.0.1", "--host", "localhost")
        return self.files(f"node-{node_id}")

    def client(self, name, roles="read,write,monitor"):
        self.run("client", name, "--dir", self.directory, "--cluster-name", self.cluster, "--roles", roles)
        return self.files(f"client-{name}")

    def revoke(self, certificate):
        self.run("revoke", certificate, "--dir", self.directory)
        return self.revoked


def port(mode, files, authorities=None, crl=None):
    """The section of one port in `tls:`."""
    section = {"mode": mode, "cert": files[0], "key": files[1]}
    if authorities:
        section["ca"] = authorities
    if crl:
        section["crl"] = crl
    return section
