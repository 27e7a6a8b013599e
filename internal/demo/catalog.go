package demo

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"berth/internal/simcluster/simdb"
)

// catalog answers what the simulated Postgres does not know itself: queries of
// tables by an Engine, those of Postgres' own catalogs from the few things that
// are to be known there, column by column.
type catalog struct{ engine Engine }

var (
	ofCatalog  = regexp.MustCompile(`(?i)\b(?:from|join) \(?(?:pg_catalog\.|information_schema\.|pg_\w+)`)
	ownSchema  = regexp.MustCompile(`(?i)"?\bpublic"?\.`)
	typeCast   = regexp.MustCompile(`(?i)::"?[a-z_]\w*"?(?:\[\])?`)
	firstTable = regexp.MustCompile(`(?i)^ ?(?:pg_catalog\.)?(\w+)(?: \w+, (?:pg_catalog\.)?(pg_class)\b)?`)
	alias      = regexp.MustCompile(`(?i) as "?(\w[\w ]*)"?$`)
	lastName   = regexp.MustCompile(`(\w+|\*)"?(?:\(.*\))?$`)

	namePattern = regexp.MustCompile(`(?i)relname (?:OPERATOR\(pg_catalog\.~\)|~|=|LIKE) E?'([^']*)'`)
	oidFilter   = regexp.MustCompile(`(?i)(?:c\.oid|attrelid) ?= ?'?(\d+)`)
	kindFilter  = regexp.MustCompile(`(?i)relkind (?:IN|=) ?\(([^)]*)\)`)
)

func (c catalog) query(ctx context.Context, _, sql string) (*simdb.Result, error) {
	if !ofCatalog.MatchString(sql) {
		return c.engine.Query(ctx, database, typeCast.ReplaceAllString(ownSchema.ReplaceAllString(sql, ""), ""))
	}
	items, rest := selectList(sql)
	r := &simdb.Result{}
	rows, err := c.rows(ctx, rest)
	if err != nil {
		return nil, err
	}
	r.Rows = make([][]any, len(rows))
	for _, item := range items {
		names := []string{columnName(item)}
		if names[0] == "*" {
			names = allColumns[firstTableOf(rest)]
		}
		r.Columns = append(r.Columns, names...)
		for i, row := range rows {
			for _, name := range names {
				r.Rows[i] = append(r.Rows[i], row[strings.ToLower(name)])
			}
		}
	}
	return r, nil
}

// selectList splits a statement into the items that it selects and what
// follows FROM.
func selectList(sql string) (items []string, rest string) {
	sql = sql[len(strings.Split(sql, " ")[0]):]
	depth, start, quote := 0, 0, byte(0)
	for i := range len(sql) {
		ch := sql[i]
		switch {
		case quote != 0:
			if ch == quote {
				quote = 0
			}
		case ch == '\'', ch == '"':
			quote = ch
		case ch == '(':
			depth++
		case ch == ')':
			depth--
		case depth > 0:
		case ch == ',':
			items = append(items, strings.TrimSpace(sql[start:i]))
			start = i + 1
		case ch == ' ' && len(sql) > i+6 && strings.EqualFold(sql[i:i+6], " from "):
			return append(items, strings.TrimSpace(sql[start:i])), sql[i+6:]
		}
	}
	return append(items, strings.TrimSpace(sql[start:])), ""
}

// columnName is what Postgres calls a selected item.
func columnName(item string) string {
	if m := alias.FindStringSubmatch(item); m != nil {
		return m[1]
	}
	if strings.HasPrefix(strings.ToLower(item), "case ") {
		return "case"
	}
	if m := lastName.FindStringSubmatch(item); m != nil {
		return m[1]
	}
	return "?column?"
}

// rows returns what is known of the catalog that a query reads, by the names of
// columns in lower case.
func (c catalog) rows(ctx context.Context, from string) ([]map[string]any, error) {
	if strings.Contains(from, "pg_inherits") {
		return nil, nil // tables of tables
	}
	switch firstTableOf(from) {
	case "pg_database":
		return []map[string]any{{
			"oid": "16384", "datname": database, "datdba": "10", "encoding": "UTF8", "datcollate": "C", "datctype": "C",
			"datistemplate": false, "datallowconn": true,
			"name": database, "owner": user, "collate": "C", "ctype": "C", "locale provider": "libc", "table_cat": database,
		}}, nil
	case "pg_namespace":
		return []map[string]any{{
			"oid": "2200", "nspname": "public", "nspowner": "10", "name": "public", "owner": user, "table_schem": "public",
		}}, nil
	case "pg_class":
		return c.tables(ctx, from)
	case "pg_attribute":
		return c.columns(ctx, from)
	}
	return nil, nil
}

// allColumns are those that a star stands for.
var allColumns = map[string][]string{
	"pg_database":  {"oid", "datname", "datdba", "encoding", "datcollate", "datctype", "datistemplate", "datallowconn"},
	"pg_namespace": {"oid", "nspname", "nspowner"},
	"pg_class":     {"oid", "relname", "relnamespace", "relowner", "relkind", "relpersistence", "relispartition"},
}

// firstTableOf returns the catalog that a query is about: the first it names,
// but for that of schemas, which stands beside that of tables.
func firstTableOf(from string) string {
	m := firstTable.FindStringSubmatch(from)
	switch {
	case m == nil:
		return ""
	case m[2] != "":
		return strings.ToLower(m[2])
	}
	return strings.ToLower(m[1])
}

// firstOID is the number of the first table, as in a fresh Postgres.
const firstOID = 16385

func (c catalog) tables(ctx context.Context, from string) ([]map[string]any, error) {
	if m := kindFilter.FindStringSubmatch(from); m != nil && !strings.Contains(m[1], "'r'") {
		return nil, nil
	}
	wanted := regexp.MustCompile("")
	if m := namePattern.FindStringSubmatch(from); m != nil {
		pattern := strings.ReplaceAll(m[1], "%", ".*")
		var err error
		if wanted, err = regexp.Compile("^(?:" + pattern + ")$"); err != nil {
			return nil, err
		}
	}
	found, err := c.engine.Query(ctx, database, "show tables")
	if err != nil {
		return nil, err
	}
	var rows []map[string]any
	for i, row := range found.Rows {
		name, oid := fmt.Sprint(row[0]), fmt.Sprint(firstOID+i)
		if m := oidFilter.FindStringSubmatch(from); !wanted.MatchString(name) || (m != nil && m[1] != oid) {
			continue
		}
		rows = append(rows, map[string]any{
			"schema": "public", "name": name, "type": "table", "owner": user,
			"oid": oid, "relname": name, "relnamespace": "2200", "nspname": "public", "relowner": "10",
			"relkind": "r", "relpersistence": "p", "relreplident": "d", "amname": "heap", "relchecks": int64(0),
			"reltablespace": int64(0), "relhasindex": false, "relhasrules": false, "relhastriggers": false,
			"relrowsecurity": false, "relforcerowsecurity": false, "relispartition": false,
			"table_schem": "public", "table_name": name, "table_type": "TABLE",
		})
	}
	return rows, nil
}

func (c catalog) columns(ctx context.Context, from string) ([]map[string]any, error) {
	m := oidFilter.FindStringSubmatch(from)
	if m == nil {
		return nil, nil
	}
	tables, err := c.tables(ctx, "c.oid = "+m[1])
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	found, err := c.engine.Query(ctx, database, fmt.Sprintf(`select column_name, column_type, is_nullable
		from information_schema.columns where table_schema = '%s' and table_name = '%s' order by ordinal_position`,
		database, strings.ReplaceAll(fmt.Sprint(tables[0]["relname"]), "'", "''")))
	if err != nil {
		return nil, err
	}
	var rows []map[string]any
	for i, row := range found.Rows {
		rows = append(rows, map[string]any{
			"attname": row[0], "format_type": row[1], "attnotnull": row[2] == "NO", "attnum": int64(i + 1),
			"attidentity": "", "attgenerated": "",
		})
	}
	return rows, nil
}
