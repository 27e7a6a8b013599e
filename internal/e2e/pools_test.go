//go:build e2e && linux

package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"

	"berth/internal/testneeds"
)

// poolWorkers is how many workers use a pool, each of which has as many
// connections.
const poolWorkers = 4

// breath is how long a worker of a pool that takes one rests between queries: around the
// second after which pools look at a connection before they use it.
func breath() time.Duration { return 700*time.Millisecond + rand.N(time.Second) }

// lull is breath, except that four times a minute all workers rest together for two
// seconds. pgx always hands out the connection it got back last, so one of the four is
// used three times a second: without the lull it may never rest for as long as pgx
// needs, see docs/TUNNELS.md.
func lull() time.Duration {
	const every, length = 15 * time.Second, 2 * time.Second
	next := time.Now().Add(breath())
	if in := time.Duration(next.UnixNano()) % every; in < length {
		next = next.Add(length - in)
	}
	return time.Until(next)
}

// briefly is how long a worker of a busy pool rests.
func briefly() time.Duration { return 200 * time.Millisecond }

// pool is a real pool in use. stop ends it, and returns what it says of itself and
// of its failures.
type pool struct {
	name string
	stop func() (queries int64, failures []string)
}

// goPool has workers use a pool of this process, each of which pauses between queries.
func goPool(name string, pause func() time.Duration, query func(context.Context) error, end func() error) pool {
	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	var queries atomic.Int64
	var mu sync.Mutex // guards failures
	var failures []string
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, fmt.Sprintf("at %s: %v", time.Now().Format("15:04:05.000"), err))
	}
	for range poolWorkers {
		workers.Go(func() {
			for ctx.Err() == nil {
				if err := query(context.WithoutCancel(ctx)); err != nil {
					note(err)
				}
				queries.Add(1)
				sleepUntil(ctx, time.Now().Add(pause()))
			}
		})
	}
	return pool{name, func() (int64, []string) {
		stop()
		workers.Wait()
		if err := end(); err != nil {
			note(err)
		}
		return queries.Load(), failures
	}}
}

// pgxPool is pgx' pool, as it is without any settings.
func pgxPool(t *testing.T, link string) pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(link)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = poolWorkers
	p, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return goPool("pgx", lull, func(ctx context.Context) error {
		_, err := p.Exec(ctx, "select 1")
		return err
	}, func() error { p.Close(); return nil })
}

// mysqlPool is database/sql with the usual driver.
func mysqlPool(t *testing.T, dsn string, busy bool) pool {
	t.Helper()
	p, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	p.SetMaxIdleConns(poolWorkers)
	name, pause := "database/sql with MySQL", breath
	if busy {
		name, pause = name+", busy", briefly
	}
	return goPool(name, pause, func(ctx context.Context) error {
		var one int
		return p.QueryRowContext(ctx, "select ?", 1).Scan(&one) // it is prepared
	}, p.Close)
}

// programPool is a pool in a program that uses it until its input ends, and then
// prints how many queries there were, and each failure on a line of its own.
func programPool(t *testing.T, name, path string, args ...string) pool {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = environment()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return pool{name, func() (int64, []string) {
		err := errors.Join(in.Close(), cmd.Wait())
		said, failures, _ := strings.Cut(out.String(), "\n")
		queries, _ := strconv.ParseInt(said, 10, 64) // none is a failure of its own
		var all []string
		for line := range strings.Lines(failures) {
			all = append(all, strings.TrimSpace(line))
		}
		if err != nil || queries == 0 {
			all = append(all, fmt.Sprintf("%v\n%s", err, errs.String()))
		}
		return queries, all
	}}
}

const redisPool = `
import random, redis, sys, threading, time
pool = redis.BlockingConnectionPool(host=sys.argv[1], port=int(sys.argv[2]), max_connections=4)
r = redis.Redis(connection_pool=pool)
ended, lock, count, failures = threading.Event(), threading.Lock(), [0], []
def work(n):
    while not ended.wait(random.uniform(0.7, 1.7)):
        try:
            with r.pipeline(transaction=True) as p:
                p.incr("n%d" % n)
                p.get("n%d" % n)
                p.execute()
        except Exception as e:
            failures.append("at %s: %r" % (time.strftime("%X"), e))
        with lock:
            count[0] += 1
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for t in threads: t.start()
sys.stdin.read()
ended.set()
for t in threads: t.join()
print("\n".join([str(count[0])] + failures))
`

const hikariPool = `
import com.zaxxer.hikari.*;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Pool {
	public static void main(String[] args) throws Exception {
		HikariConfig c = new HikariConfig();
		c.setJdbcUrl(args[0]);
		c.setMaximumPoolSize(4);
		HikariDataSource source = new HikariDataSource(c);
		AtomicLong count = new AtomicLong();
		AtomicBoolean ended = new AtomicBoolean();
		Queue<String> failures = new ConcurrentLinkedQueue<>();
		List<Thread> threads = new ArrayList<>();
		for (int i = 0; i < 4; i++) {
			Thread t = new Thread(() -> {
				while (!ended.get()) {
					try (Connection x = source.getConnection(); PreparedStatement s = x.prepareStatement("select 1")) {
						s.execute();
					} catch (SQLException e) {
						failures.add(("at " + new java.util.Date() + ": " + e).replace('\n', ' '));
					}
					count.incrementAndGet();
					try {
						Thread.sleep(ThreadLocalRandom.current().nextInt(100, 1700));
					} catch (InterruptedException e) {
						return;
					}
				}
			});
			t.start();
			threads.add(t);
		}
		while (System.in.read() >= 0) {
		}
		ended.set(true);
		for (Thread t : threads) t.join();
		source.close();
		System.out.println(count.get());
		for (String f : failures) System.out.println(f);
	}
}
`

// javaPool is HikariCP; ok is false where there is none.
func javaPool(t *testing.T, name, url string) (p pool, ok bool) {
	t.Helper()
	var jars []string
	for _, jar := range []string{"HikariCP", "slf4j-api", "slf4j-nop", "postgresql", "mariadb-java-client"} {
		path := "/usr/share/java/" + jar + ".jar"
		if _, err := os.Stat(path); err != nil {
			t.Logf("without HikariCP: install default-jdk-headless, libhikaricp-java, libpostgresql-jdbc-java and libmariadb-java (%v)", err)
			return pool{}, false
		}
		jars = append(jars, path)
	}
	source := filepath.Join(t.TempDir(), "Pool.java")
	if err := os.WriteFile(source, []byte(hikariPool), 0o600); err != nil {
		t.Fatal(err)
	}
	return programPool(t, name, testneeds.Program(t, "java"), "-cp", strings.Join(jars, ":"), source, url), true
}

// bouncerPool is pgbench on connections that stay, to a PgBouncer whose own
// connections go through the tunnel, and are looked at before each use. PgBouncer
// does not run as root.
func bouncerPool(t *testing.T, tunnel string) pool {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	path, dir := testneeds.Program(t, "pgbouncer"), filepath.Join(lab.dir, "pgbouncer")
	host, port, err := net.SplitHostPort(tunnel)
	if err != nil {
		t.Fatal(err)
	}
	own := mustFreePort(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ini := fmt.Sprintf(`[databases]
appdb = host=%s port=%s user=app dbname=appdb
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_check_delay = 0
server_tls_sslmode = disable
`, host, port, own)
	if err := os.WriteFile(filepath.Join(dir, "ini"), []byte(ini), 0o600); err != nil {
		t.Fatal(err)
	}
	owner := &postgres{dir: dir, cred: lab.postgres.cred}
	if err := owner.chown(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, filepath.Join(dir, "ini"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner.cred}
	proc, err := startProc("pgbouncer", filepath.Join(lab.dir, "pgbouncer.log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	bench := func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(lab.postgres.bin, "pgbench"),
			append(append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(own), "-U", "app"}, args...), "appdb")...)
	}
	err = until(t.Context(), 20*time.Second, 200*time.Millisecond, func() error {
		out, err := bench("-i", "-q", "-s", "4").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, proc.tail())
	}
	running := bench("-n", "-c", strconv.Itoa(poolWorkers), "-S", "-R", "3", "-T", "3600") // until it is interrupted
	var out strings.Builder
	running.Stdout, running.Stderr = &out, &out
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	t.Cleanup(func() { _ = errors.Join(running.Process.Kill(), proc.stop(syscall.SIGTERM, 15*time.Second)) }) // mostly they have ended
	return pool{"pgbench through PgBouncer", func() (int64, []string) {
		var failures []string
		select {
		case err := <-ended:
			failures = append(failures, fmt.Sprintf("pgbench ended by itself: %v\n%s", err, out.String()))
		default:
			// Not os.Interrupt, which a program may have inherited as ignored.
			if err := running.Process.Signal(syscall.SIGTERM); err != nil {
				failures = append(failures, err.Error())
			}
			<-ended
		}
		done, err := mustRun(context.Background(), environment(), "", lab.postgres.psql(),
			append(lab.postgres.adminArgs(), "-d", "appdb", "-c", "select idx_scan from pg_stat_user_tables where relname = 'pgbench_accounts'")...)
		if err != nil {
			failures = append(failures, err.Error())
		}
		n, _ := strconv.ParseInt(strings.TrimSpace(done), 10, 64) // none is a failure of its own
		if said := out.String(); strings.Contains(said, "aborted") || strings.Contains(said, "ERROR") || n == 0 {
			failures = append(failures, said)
		}
		if err := proc.stop(syscall.SIGTERM, 15*time.Second); err != nil {
			failures = append(failures, err.Error())
		}
		return n, failures
	}}
}
