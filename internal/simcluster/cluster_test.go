package simcluster

import (
	"crypto/tls"
	"testing"

	"github.com/gravitational/teleport/api/client/proto"
)

func TestLoginMintConnect(t *testing.T) {
	for _, version := range []string{V16, V17} {
		t.Run(version, func(t *testing.T) {
			c := startDBs(t, Config{Version: version})
			session := loginCert(t, c, "alice")
			cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres"})
			for _, protos := range [][]string{{"teleport-postgres"}, {"teleport-postgres-ping", "teleport-postgres"}} {
				pc, err := pgConnect(t, dialALPN(t, c, cert, protos...), "bob")
				if err != nil {
					t.Fatalf("%v: %v", protos, err)
				}
				var user, db string
				if err := pc.QueryRow(t.Context(), "select current_user, current_database()").Scan(&user, &db); err != nil {
					t.Fatal(err)
				}
				if user != "bob" || db != "appdb" {
					t.Errorf("current_user, current_database() = %q, %q, want bob, appdb", user, db)
				}
				if got, want := dbIdentity(t, pc)["serial"], cert.Leaf.SerialNumber.String(); got != want {
					t.Errorf("served by cert %s, want %s", got, want)
				}
			}
		})
	}
}

func TestEcho(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "echo", Protocol: "mongodb"})
	conn := dialALPN(t, c, cert, "teleport-mongodb")
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := conn.Read(buf); err != nil || string(buf) != "hello" {
		t.Fatalf("echo: %q, %v", buf, err)
	}
	if err := conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, conn)
}
