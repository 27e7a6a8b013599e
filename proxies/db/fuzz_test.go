package db

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	sqldriver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// FuzzNames lets clients read back whatever a user and a database are called.
func FuzzNames(f *testing.F) {
	f.Add("alice", "app")
	f.Add(nasty.DBUser, nasty.DBName)
	f.Add("%41", "..")
	f.Fuzz(func(t *testing.T, user, name string) {
		e := Endpoint{Host: "127.0.0.1", Port: 15432, DBUser: user, DBName: name, TunnelName: "t"}
		pg, _ := Lookup("postgres")
		my, _ := Lookup("mysql")
		if strings.ContainsFunc(user+name, unicode.IsControl) {
			if s, err := pg.Format(URL, e); err == nil {
				t.Errorf("control characters pass: %q", s)
			}
			return
		}
		if user == "" || name == "" || !utf8.ValidString(user+name) {
			return
		}
		for _, format := range []Format{URL, DSN} {
			s, err := pg.Format(format, e)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := pgx.ParseConfig(s)
			if err != nil || cfg.User != user || cfg.Database != name {
				t.Errorf("pgx reads %q as %+v, %v", s, cfg, err)
			}
		}
		s, err := my.Format(DSN, e)
		if err != nil {
			return // it cannot be expressed, and says so
		}
		cfg, err := sqldriver.ParseDSN(s)
		if err != nil || cfg.User != user || cfg.DBName != name {
			t.Errorf("go-sql-driver reads %q as %+v, %v", s, cfg, err)
		}
	})
}
