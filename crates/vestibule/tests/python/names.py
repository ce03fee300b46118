"""Records of every type, made through the API and read with dnspython.

names.py API RESOLVER: the server's address and the resolver's, which sees the zone internal.example.com.
Prints {"passed": true} when everything was as it should be.
"""

import json
import sys
import urllib.error
import urllib.request

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

ZONE = "internal.example.com."
PATIENCE = 20.0

# The texts are those of the RFCs' own examples where these have one.
DATA = {
    "A": ["10.0.0.1", "10.0.0.2"],
    "AAAA": ["2001:db8::1", "2001:DB8:0:0::2"],
    "CAA": ['0 issue "pki.goog; validationmethods=dns-01"', '128 iodef "mailto:security@example.com"'],
    "DNSKEY": ["256 3 5 AQPSKmynfzW4kyBv015MUG2DeIQ3"],
    "DS": ["60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"],
    "HTTPS": ['1 . alpn="h2,h3" port=8443 ipv4hint=10.0.0.1,10.0.0.2 ipv6hint=2001:db8::1'],
    "IPSECKEY": ["10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="],
    "MX": ["10 mail.example.com.", "20 Mail2.example.com."],
    "NAPTR": ['100 10 "S" "SIP+D2U" "!^.*$!sip:info@example.com!" _sip._udp.example.com.'],
    "NS": ["ns1.example.com."],
    "PTR": ["host.example.com."],
    "SPF": ['"v=spf1 -all"'],
    "SRV": ["0 5 5060 sip.example.com."],
    "SSHFP": ["2 1 123456789abcdef67890123456789abcdef67890"],
    "SVCB": ["16 foo.example.org. mandatory=alpn,ipv4hint alpn=h2,h3-19 ipv4hint=192.0.2.1"],
    "TLSA": ["3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971"],
    "TXT": ['"two words" "a \\"quote\\" and \\\\ and \\195\\164"', '"' + "x" * 255 + '" "y"'],
    "CNAME": ["away.internal.example.com."],
}


def call(api, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer t"}
    request = urllib.request.Request(f"{api}/dns/v1/projects/demo/{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def same(kind, answer, texts):
    """Whether an answer has just these data, as dnspython reads the texts."""
    wanted = {dns.rdata.from_text(dns.rdataclass.IN, kind, text).to_digestable() for text in texts}
    found = [rdata.to_digestable() for rrset in answer if rrset.rdtype == kind for rdata in rrset]
    assert set(found) == wanted and len(found) == len(wanted), (kind, found, wanted)


def main():
    api, resolver = sys.argv[1:]
    host, port = resolver.rsplit(":", 1)
    at = {"where": host, "port": int(port), "timeout": PATIENCE}

    additions = [
        {"kind": "dns#resourceRecordSet", "name": f"{kind.lower()}.{ZONE}", "type": kind, "ttl": 300, "rrdatas": data}
        for kind, data in DATA.items()
    ]
    status, change = call(api, "POST", "managedZones/my-zone/changes", {"additions": additions})
    assert (status, change["status"]) == (200, "done"), change

    for kind, data in DATA.items():
        name, number = dns.name.from_text(f"{kind.lower()}.{ZONE}"), dns.rdatatype.from_text(kind)
        query = dns.message.make_query(name, number, use_edns=0, payload=1232)
        over_udp = dns.query.udp(query, raise_on_truncation=True, **at)
        over_tcp = dns.query.tcp(query, **at)
        for answer in (over_udp, over_tcp):
            assert answer.rcode() == dns.rcode.NOERROR and answer.flags & dns.flags.AA, answer
            if kind != "CNAME":
                assert answer.answer[0].ttl == 300, answer
            same(number, answer.answer, data)
        stored = call(api, "GET", f"managedZones/my-zone/rrsets/{name}/{kind}")[1]
        assert stored["rrdatas"] == data, f"{kind}: as it was sent"

    # What does not exist, and what exists without such records.
    for name, kind, rcode in [("no", "A", dns.rcode.NXDOMAIN), ("a", "MX", dns.rcode.NOERROR)]:
        answer = dns.query.udp(dns.message.make_query(f"{name}.{ZONE}", kind), **at)
        soa = answer.authority[0]
        assert (answer.rcode(), answer.answer) == (rcode, []), answer
        assert (soa.rdtype, soa.ttl) == (dns.rdatatype.SOA, min(soa.ttl, soa[0].minimum)), answer

    # Too long for one datagram: truncated, and whole over TCP.
    many = {"name": f"many.{ZONE}", "type": "TXT", "ttl": 1, "rrdatas": [f'"{n:0200}"' for n in range(100)]}
    status, made = call(api, "POST", "managedZones/my-zone/rrsets", many)
    assert status == 200, made
    query = dns.message.make_query(many["name"], "TXT", use_edns=0, payload=4096)
    wire = dns.query.udp(query, **at)
    assert wire.flags & dns.flags.TC and not wire.answer, wire
    answer, used_tcp = dns.query.udp_with_fallback(query, **at)
    assert used_tcp, "the answer is larger than a datagram may be"
    same(dns.rdatatype.TXT, answer.answer, many["rrdatas"])

    # What is no data of its type is refused, and a change with it changes nothing.
    good = {"name": f"good.{ZONE}", "type": "A", "ttl": 1, "rrdatas": ["10.0.0.1"]}
    for kind, text in [("A", "10.0.0"), ("MX", "10"), ("TXT", '"' + "x" * 256 + '"'), ("CAA", "0 a-b \"x\""), ("SRV", "1 2 a.")]:
        bad = {"name": f"bad.{ZONE}", "type": kind, "ttl": 1, "rrdatas": [text]}
        status, refused = call(api, "POST", "managedZones/my-zone/changes", {"additions": [good, bad]})
        assert (status, refused["error"]["errors"][0]["reason"]) == (400, "invalid"), refused
    assert dns.query.udp(dns.message.make_query(good["name"], "A"), **at).rcode() == dns.rcode.NXDOMAIN

    print(json.dumps({"passed": True}))


if __name__ == "__main__":
    main()
