package demo

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/simcluster/simdb"
)

// fakeEngine has two tables and notes what it is asked.
type fakeEngine struct{ asked []string }

func (*fakeEngine) Dial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
func (*fakeEngine) Close() error                           { return nil }

func (f *fakeEngine) Query(_ context.Context, db, sql string) (*simdb.Result, error) {
	f.asked = append(f.asked, db+": "+sql)
	switch {
	case sql == "show tables":
		return &simdb.Result{Columns: []string{"t"}, Rows: [][]any{{"customers"}, {"orders"}}}, nil
	case strings.Contains(sql, "information_schema.columns"):
		return &simdb.Result{Rows: [][]any{{"id", "int", "NO"}, {"note", "text", "YES"}}}, nil
	}
	return &simdb.Result{Columns: []string{"answer"}, Rows: [][]any{{"the engine's"}}}, nil
}

// What psql and drivers ask of the catalogs; the first line are the columns.
func TestCatalog(t *testing.T) {
	for _, tt := range []struct{ name, sql, want string }{
		{"list_tables", // \dt
			`SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type",
			 pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c
			 LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') ORDER BY 1,2`,
			"Schema Name Type Owner\npublic customers table alice\npublic orders table alice"},
		{"list_views",
			`SELECT n.nspname as "Schema", c.relname as "Name" FROM pg_catalog.pg_class c WHERE c.relkind IN ('v','') ORDER BY 1,2`,
			"Schema Name"},
		{"list_databases", // \l
			`SELECT d.datname as "Name", pg_catalog.pg_get_userbyid(d.datdba) as "Owner", pg_catalog.pg_encoding_to_char(d.encoding) as "Encoding",
			 pg_catalog.array_to_string(d.datacl, E'\n') AS "Access privileges" FROM pg_catalog.pg_database d ORDER BY 1`,
			"Name Owner Encoding Access privileges\napp alice UTF8 <nil>"},
		{"find_table", // \d orders
			`SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
			 LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			 WHERE c.relname OPERATOR(pg_catalog.~) '^(orders)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3`,
			"oid nspname relname\n16386 public orders"},
		{"describe_table",
			`SELECT c.relchecks, c.relkind, c.relhasindex, '', CASE WHEN c.reloftype = 0 THEN '' ELSE 'x, y' END FROM pg_catalog.pg_class c
			 WHERE c.oid = '16386'`,
			"relchecks relkind relhasindex ?column? case\n0 r false <nil> <nil>"},
		{"describe_columns",
			`SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
			 FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid), a.attnotnull FROM pg_catalog.pg_attribute a
			 WHERE a.attrelid = '16386' AND a.attnum > 0 ORDER BY a.attnum`,
			"attname format_type pg_get_expr attnotnull\nid int <nil> true\nnote text <nil> false"},
		{"inherited",
			`SELECT c.oid FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i WHERE c.oid = i.inhparent AND i.inhrelid = '16386'`,
			"oid"},
		{"jdbc_tables",
			`SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME
			 FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname LIKE 'cust%'`,
			"TABLE_CAT TABLE_SCHEM TABLE_NAME\n<nil> public customers"},
		{"star", "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname='app'",
			"oid oid datname datdba encoding datcollate datctype datistemplate datallowconn\n16384 16384 app 10 UTF8 C C false true"},
		{"unknown_catalog", "select pid, query from pg_stat_activity", "pid query"},
		{"a_table", "select * from public.orders where id = '3'::int", "answer\nthe engine's"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := catalog{&fakeEngine{}}.query(t.Context(), "app", strings.Join(strings.Fields(tt.sql), " "))
			if err != nil {
				t.Fatal(err)
			}
			lines := []string{strings.Join(r.Columns, " ")}
			for _, row := range r.Rows {
				lines = append(lines, strings.TrimSpace(strings.Trim(fmt.Sprint(row), "[]")))
			}
			if diff := cmp.Diff(tt.want, strings.Join(lines, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What only Postgres knows is taken out of a statement before the engine sees it.
func TestStatementsForTheEngine(t *testing.T) {
	f := &fakeEngine{}
	for sql, want := range map[string]string{
		`select * from "public".orders where id = '3'::int`: "app: select * from orders where id = '3'",
		"select 1::bigint":                   "app: select 1",
		"insert into orders values (1, 'a')": "app: insert into orders values (1, 'a')",
	} {
		f.asked = nil
		if _, err := (catalog{f}).query(t.Context(), "app", sql); err != nil || len(f.asked) != 1 || f.asked[0] != want {
			t.Errorf("%s asks %q, %v; want %q", sql, f.asked, err, want)
		}
	}
}

func FuzzCatalog(f *testing.F) {
	f.Add(`select a as "b", c.* from pg_catalog.pg_class c where c.relname ~ '^(x)$'`)
	f.Add("select (1 from pg_attribute a where attrelid = 16385")
	f.Fuzz(func(t *testing.T, sql string) {
		r, err := catalog{&fakeEngine{}}.query(t.Context(), "app", sql)
		if err != nil {
			return
		}
		for _, row := range r.Rows {
			if len(row) != len(r.Columns) {
				t.Errorf("%q: a row of %d in %d columns", sql, len(row), len(r.Columns))
			}
		}
	})
}
