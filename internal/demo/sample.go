package demo

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/tidwall/redcon"

	"berth/internal/simcluster/simdb"
)

// database is the name of the database in every server.
const database = "app"

// sample is what the SQL databases hold, in words that all of them know.
var sample = []string{
	`create table customers (id int primary key, name varchar(40) not null, city varchar(40) not null)`,
	`create table products (id int primary key, name varchar(40) not null, price decimal(8,2) not null)`,
	`create table orders (id int primary key, customer_id int not null, product_id int not null, quantity int not null,
		ordered_on date not null)`,
	`insert into customers values (1, 'Ada Adler', 'Hamburg'), (2, 'Ben Brandt', 'Lisbon'),
		(3, 'Chloe Costa', 'Rotterdam'), (4, 'Dan Doyle', 'Bergen'), (5, 'Eve Eriksen', 'Genoa')`,
	`insert into products values (1, 'rope, 20 m', 24.90), (2, 'anchor', 119.00), (3, 'lantern', 39.50),
		(4, 'fender', 17.25)`,
	`insert into orders values (1, 1, 2, 1, '2026-01-12'), (2, 1, 4, 6, '2026-01-12'), (3, 3, 1, 2, '2026-02-03'),
		(4, 2, 3, 1, '2026-02-21'), (5, 5, 4, 4, '2026-03-09'), (6, 4, 1, 1, '2026-03-30'), (7, 3, 2, 2, '2026-04-02')`,
}

// identityView tells in a real Postgres which cert a connection was made with,
// from the settings that the simulated database service adds.
const identityView = `create view session_identity as select name, current_setting('teleport.' || name, true) as value
	from (values ('serial'), ('teleport_user'), ('cluster'), ('service'), ('roles'), ('requests'), ('not_after'))
	as known (name)`

// redisSample is what Redis holds.
var redisSample = [][]string{
	{"SET", "greeting", "hello from the demo"},
	{"SET", "visits", "41"},
	{"HSET", "customer:1", "name", "Ada Adler", "city", "Hamburg"},
	{"HSET", "customer:2", "name", "Ben Brandt", "city", "Lisbon"},
	{"RPUSH", "queue", "order:1", "order:2"},
}

// connectPostgresAt logs in to the real Postgres behind dial.
func connectPostgresAt(ctx context.Context, dial simdb.Dialer, db string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=postgres user=%s dbname=%s sslmode=disable", user, db))
	if err != nil {
		return nil, err
	}
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	return pgx.ConnectConfig(ctx, cfg)
}

// fillPostgres makes the database in a new Postgres, and returns its version.
func fillPostgres(ctx context.Context, dial simdb.Dialer) (version string, err error) {
	conn, err := connectPostgresAt(ctx, dial, "postgres")
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, "show server_version").Scan(&version)
	if err == nil {
		_, err = conn.Exec(ctx, "create database "+database)
	}
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return "", err
	}
	if conn, err = connectPostgresAt(ctx, dial, database); err != nil {
		return "", err
	}
	for _, statement := range append(sample, identityView) {
		if _, err = conn.Exec(ctx, statement); err != nil {
			break
		}
	}
	return version, errors.Join(err, conn.Close(ctx))
}

// openMySQL returns a pool of connections to the MySQL behind dial.
func openMySQL(dbUser string, dial simdb.Dialer) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Addr = dbUser, "mysql"
	cfg.Logger = &mysql.NopLogger{} // while a server starts every try fails
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// fillMySQL makes the user and the database in a new MySQL or MariaDB, as root,
// and returns its version.
func fillMySQL(ctx context.Context, dial simdb.Dialer, statements ...string) (version string, err error) {
	pool, err := openMySQL("root", dial)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	pool.SetMaxOpenConns(1) // so that USE holds for all
	if err := pool.QueryRowContext(ctx, "select version()").Scan(&version); err != nil {
		return "", err
	}
	for _, statement := range append(append(statements, "use "+database), sample...) {
		if _, err := pool.ExecContext(ctx, statement); err != nil {
			return "", fmt.Errorf("%.40s: %w", statement, err)
		}
	}
	return version, nil
}

// mysqlUser are the statements that make the user and the database.
var mysqlUser = []string{
	"create database " + database,
	"create user '" + user + "'@'localhost'",
	"grant all on *.* to '" + user + "'@'localhost'",
}

// fillRedis fills a new Redis.
func fillRedis(ctx context.Context, dial simdb.Dialer) (err error) {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(startWait)); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for _, command := range redisSample {
		out := redcon.AppendArray(nil, len(command))
		for _, word := range command {
			out = redcon.AppendBulkString(out, word)
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if answer[0] == '-' {
			return fmt.Errorf("%s: %s", command[0], answer)
		}
	}
	return nil
}
