package certwatch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// everyField is an identity with no field left at zero.
func everyField() Identity {
	return Identity{
		User:                    "alice@example.com",
		Roles:                   []string{"dev", "access"},
		Usage:                   []string{"usage:db"},
		Logins:                  []string{"root", "-teleport-internal-join"},
		RouteToCluster:          "leaf.example.com",
		Traits:                  map[string][]string{"db_users": {"alice", "bob"}},
		TeleportCluster:         "root.example.com",
		KubeUsers:               []string{"ku"},
		KubeGroups:              []string{"kg1", "kg2"},
		KubeCluster:             "prod",
		DBService:               "pg",
		DBProtocol:              "postgres",
		DBUser:                  "alice",
		DBName:                  "app",
		DBNames:                 []string{"*"},
		DBUsers:                 []string{"z", "a"},
		DBRoles:                 []string{"reader"},
		ActiveRequests:          []string{"0191-b", "0191-a"},
		AllowedResourceIDs:      `["/root/db/pg"]`,
		Impersonator:            "carol",
		DisallowReissue:         true,
		PrivateKeyPolicy:        "hardware_key_touch",
		MFADeviceID:             "mfa-1",
		PreviousIdentityExpires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		LoginIP:                 "203.0.113.7",
		PinnedIP:                "203.0.113.8",
		DeviceID:                "dev-1",
		BotName:                 "bot",
	}
}

// throughCert issues a certificate with the subject and returns the subject
// as it comes back out of the DER.
func throughCert(t testing.TB, subject pkix.Name) pkix.Name {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Subject
}

func TestIdentitySurvivesACertificate(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   Identity
	}{
		{"every_field", everyField()},
		{"user_alone", Identity{User: "alice"}},
		{"nothing", Identity{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.id
			if diff := cmp.Diff(want, ParseIdentity(tt.id.Subject())); diff != "" {
				t.Errorf("ParseIdentity(Subject()) (-want +got):\n%s", diff)
			}
			got := ParseIdentity(throughCert(t, tt.id.Subject()))
			sets := cmp.FilterPath(func(p cmp.Path) bool {
				switch p.String() {
				case "Roles", "Usage", "Logins":
					return true
				}
				return false
			}, cmp.Comparer(sameSet))
			if diff := cmp.Diff(want, got, sets); diff != "" {
				t.Errorf("through a certificate (-want +got):\n%s", diff)
			}
		})
	}
}

// sameSet reports whether a and b hold the same strings, in any order.
func sameSet(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func TestParseIdentityIsLenient(t *testing.T) {
	name := pkix.Name{
		CommonName: "alice",
		PostalCode: []string{"not json"},
		ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: teleportOID(2, 12), Value: "yesterday"},
			{Type: teleportOID(9, 99), Value: "from a newer cluster"},
			{Type: teleportOID(1, 7), Value: 42},
			{Type: asn1.ObjectIdentifier{1, 3, 9999}, Value: "too short"},
			{Type: teleportOID(2, 9), Value: "false"},
		},
	}
	if diff := cmp.Diff(Identity{User: "alice"}, ParseIdentity(name)); diff != "" {
		t.Errorf("ParseIdentity (-want +got):\n%s", diff)
	}
}

func FuzzParseIdentity(f *testing.F) {
	seed, err := asn1.Marshal(everyField().Subject().ToRDNSequence())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, der []byte) {
		var rdns pkix.RDNSequence
		if _, err := asn1.Unmarshal(der, &rdns); err != nil {
			return
		}
		var name pkix.Name
		name.FillFromRDNSequence(&rdns)
		id := ParseIdentity(name)
		if diff := cmp.Diff(id, ParseIdentity(id.Subject())); diff != "" {
			t.Errorf("parse, write, parse (-first +second):\n%s", diff)
		}
	})
}
