package faketsh

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/keypaths"
	"github.com/gravitational/teleport/api/utils/keys"
	"golang.org/x/crypto/ssh"

	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/tshhome"
)

// databases lists the databases of a cluster, each once.
func (t *tsh) databases(ctx context.Context, s *session, cluster string) ([]types.Database, error) {
	clt, err := t.auth(ctx, s, cluster)
	if err != nil {
		return nil, err
	}
	defer clt.Close()
	servers, err := clt.GetDatabaseServers(ctx, "default")
	if err != nil {
		return nil, err
	}
	var dbs []types.Database
	for _, server := range servers {
		db := server.GetDatabase()
		if !slices.ContainsFunc(dbs, func(d types.Database) bool { return d.GetName() == db.GetName() }) {
			dbs = append(dbs, db)
		}
	}
	return dbs, nil
}

// dbList is "tsh db ls".
func (t *tsh) dbList(ctx context.Context) error {
	s, err := t.load()
	if err != nil {
		return err
	}
	if err := s.need(); err != nil {
		return err
	}
	dbs, err := t.databases(ctx, s, t.cluster(s))
	if err != nil {
		return err
	}
	if t.flags["format"] == "json" {
		return t.printDatabases(dbs, s.id.DBUsers)
	}
	fmt.Fprintf(t.stdout, "%-20s %-30s %-15s %s\n", "Name", "Description", "Allowed Users", "Labels")
	for _, db := range dbs {
		fmt.Fprintf(t.stdout, "%-20s %-30s %-15s %v\n", db.GetName(), db.GetDescription(), s.id.DBUsers, db.GetAllLabels())
	}
	return nil
}

// printDatabases prints resources as tsh does, with the users that are
// allowed on each.
func (t *tsh) printDatabases(dbs []types.Database, users []string) error {
	var list []map[string]any // null when it is empty
	for _, db := range dbs {
		raw, err := json.Marshal(db)
		if err != nil {
			return err
		}
		var entry map[string]any
		if err := json.Unmarshal(raw, &entry); err != nil {
			return err
		}
		entry["users"] = map[string]any{"allowed": users}
		list = append(list, entry)
	}
	out, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.stdout, string(out))
	return err
}

// target is the database a command is about.
func (t *tsh) target(ctx context.Context, s *session) (types.Database, error) {
	if len(t.words) != 1 {
		return nil, errors.New("required argument 'db' not provided")
	}
	dbs, err := t.databases(ctx, s, t.cluster(s))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(dbs, func(db types.Database) bool { return db.GetName() == t.words[0] })
	if i < 0 {
		return nil, fmt.Errorf("database %q not found, use 'tsh db ls' to see registered databases", t.words[0])
	}
	return dbs[i], nil
}

// route returns what a database cert is to be for.
func (t *tsh) route(db types.Database) proto.RouteToDatabase {
	return proto.RouteToDatabase{
		ServiceName: db.GetName(), Protocol: db.GetProtocol(),
		Username: t.flags["db-user"], Database: t.flags["db-name"],
	}
}

// dbLogin is "tsh db login NAME".
func (t *tsh) dbLogin(ctx context.Context) error {
	s, err := t.load()
	if err != nil {
		return err
	}
	if s.ssh != nil && !s.valid() {
		if s, err = t.relogin(ctx, s); err != nil {
			return err
		}
	}
	if err := s.need(); err != nil {
		return err
	}
	db, err := t.target(ctx, s)
	if err != nil {
		return err
	}
	cluster := t.cluster(s)
	cert, key, err := t.dbCert(ctx, s, cluster, t.route(db))
	if err != nil {
		return err
	}
	if err := s.home.DBLogin(s.profile, s.creds, cluster, db.GetName(), cert, key); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "Connection information for database %q has been saved.\n\n"+
		"You can connect to it with a local proxy:\n\n  tsh proxy db --tunnel %s\n", db.GetName(), db.GetName())
	return nil
}

// dbConfig is "tsh db config --format=json NAME".
func (t *tsh) dbConfig(context.Context) error {
	s, err := t.load()
	if err != nil {
		return err
	}
	if err := s.need(); err != nil {
		return err
	}
	if len(t.words) != 1 || t.flags["format"] != "json" {
		return errors.New("this tsh shows one database that is named, as JSON")
	}
	cluster, name := t.cluster(s), t.words[0]
	certPath := s.home.DBCertPath(s.profile, cluster, name)
	cert, err := os.ReadFile(certPath)
	block, _ := pem.Decode(cert)
	if err != nil || block == nil {
		return fmt.Errorf("not logged into database %q", name)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.profile.WebProxyAddr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	id := certwatch.ParseIdentity(leaf.Subject)
	out, err := json.MarshalIndent(struct {
		Name     string `json:"name"`
		Host     string `json:"host"`
		Port     int    `json:"port"`
		User     string `json:"user"`
		Database string `json:"database"`
		CA       string `json:"ca"`
		Cert     string `json:"cert"`
		Key      string `json:"key"`
	}{
		name, host, number, id.DBUser, id.DBName,
		keypaths.TLSCAsPathCluster(s.home.Dir, s.profile.Name(), cluster), certPath, s.home.DBKeyPath(s.profile, cluster, name),
	}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.stdout, string(out))
	return err
}

// dbCert mints a database cert.
func (t *tsh) dbCert(ctx context.Context, s *session, cluster string, route proto.RouteToDatabase) (cert, key []byte, err error) {
	factor, err := t.secondFactor(ctx, s, cluster, route)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err == nil && factor.GetWebauthn() != nil {
			fmt.Fprintln(t.stderr, "Detected security key tap")
		}
	}()
	return t.resourceCert(ctx, s, func(r *proto.UserCertsRequest) {
		if factor != nil {
			r.MFAResponse, r.Purpose = factor, proto.UserCertsRequest_CERT_PURPOSE_SINGLE_USE_CERTS
		}
		r.RouteToCluster, r.RouteToDatabase, r.Usage = cluster, route, proto.UserCertsRequest_Database
		r.RequesterName = proto.UserCertsRequest_TSH_DB_LOCAL_PROXY_TUNNEL
	})
}

// resourceCert mints a cert for a resource: for the user's own key in the
// older layout, for a new one in the newer.
func (t *tsh) resourceCert(ctx context.Context, s *session, change func(*proto.UserCertsRequest)) (cert, key []byte, err error) {
	key = s.creds.TLSKey
	var sshPub, tlsPub []byte
	if s.home.Layout == tshhome.V17 {
		signer, err := simcluster.NewKey(simcluster.ECDSA)
		if err != nil {
			return nil, nil, err
		}
		var made tshhome.Credentials
		if err := made.SetKeys(tshhome.V17, signer, signer); err != nil {
			return nil, nil, err
		}
		if tlsPub, err = keys.MarshalPublicKey(signer.Public()); err != nil {
			return nil, nil, err
		}
		pub, err := ssh.NewPublicKey(signer.Public())
		if err != nil {
			return nil, nil, err
		}
		key, sshPub = made.TLSKey, ssh.MarshalAuthorizedKey(pub)
	}
	certs, err := t.reissue(ctx, s, func(r *proto.UserCertsRequest) {
		change(r)
		if tlsPub != nil {
			r.SSHPublicKey, r.TLSPublicKey = sshPub, tlsPub
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return certs.TLS, key, nil
}

// dbLogout is "tsh db logout NAME".
func (t *tsh) dbLogout(context.Context) error {
	s, err := t.load()
	if err != nil {
		return err
	}
	if len(t.words) != 1 {
		return errors.New("required argument 'db' not provided")
	}
	if err := s.home.DBLogout(s.profile, t.cluster(s), t.words[0]); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "Logged out of database %s\n", strings.TrimSpace(t.words[0]))
	return nil
}
