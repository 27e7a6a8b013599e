package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"git.sr.ht/~jackmordaunt/go-toast/v2/wintoast"
	"github.com/go-ole/go-ole"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"berth/internal/atomicfile"
	"berth/notify/internal/words"
)

const remedy = `allow notifications in the system's settings; until then look at berth's menu or "berth status"`

const (
	defaultAppID = "Berth.Agent"
	// activator is the COM class that Windows calls when a button is pressed.
	activator = "{7B1F4C0E-52C1-4E7B-9E6A-3C2D7A9F5B61}"
	classes   = `Software\Classes\`

	mta                   = 1 // RO_INIT_MULTITHREADED
	clsctxLocalServer     = 4 // CLSCTX_LOCAL_SERVER
	regclsMultipleUse     = 1 // REGCLS_MULTIPLEUSE
	startedForActivations = " -Embedding"
)

var (
	combase             = windows.NewLazySystemDLL("combase.dll")
	registerClassObject = combase.NewProc("CoRegisterClassObject")
	revokeClassObject   = combase.NewProc("CoRevokeClassObject")
)

// toasts shows notifications through COM.
type toasts struct {
	cfg  Config
	log  *slog.Logger
	jobs chan toastJob

	mu      sync.Mutex // guards what follows
	problem error      // why the last toast failed
	answers bool       // clicks arrive
}

// toastJob is a toast for the thread that talks to COM.
type toastJob struct {
	xml  string
	done chan error // capacity 1
}

func newBackend(cfg Config) backend {
	if cfg.AppID == "" {
		cfg.AppID = defaultAppID
	}
	return &toasts{cfg: cfg, log: cfg.Logger, jobs: make(chan toastJob)}
}

// capabilities implements backend.
func (t *toasts) capabilities() Capabilities {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := Capabilities{Backend: "toast", Actions: t.answers && t.problem == nil, Problem: t.problem}
	if t.problem == nil {
		c.Server = "Windows"
	}
	return c
}

// run implements backend. Two threads are kept for COM: one has the class
// registered that clicks arrive at, the other pushes toasts, and the library
// prepares that one itself.
func (t *toasts) run(ctx context.Context, to sink) error {
	if err := t.register(); err != nil {
		t.log.Warn("buttons of notifications may not work", "err", err)
	}
	wintoast.GUID_ImplNotificationActivationCallback = ole.NewGUID(activator)
	wintoast.SetActivationCallback(func(_, arguments string, _ []wintoast.UserData) {
		id, key, ok := toastClick(strings.Clone(arguments))
		switch {
		case !ok:
			t.log.Debug("a click that is not ours")
		case key == "":
			to.expired(id)
		default:
			to.acted(id, key)
		}
	})
	var threads sync.WaitGroup
	threads.Go(func() {
		if err := t.answer(ctx); err != nil {
			t.log.Warn("buttons of notifications do not work", "err", err)
		}
	})
	threads.Go(func() { t.push(ctx) })
	threads.Wait()
	return nil
}

// answer has the class registered until ctx ends.
func (t *toasts) answer(ctx context.Context) error {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its part of COM too
	if err := ole.RoInitialize(mta); err != nil {
		return fmt.Errorf("start COM: %w", err)
	}
	class := ole.NewGUID(activator)
	var cookie uint32
	hr, _, _ := registerClassObject.Call(uintptr(unsafe.Pointer(class)), uintptr(unsafe.Pointer(wintoast.ClassFactory)),
		clsctxLocalServer, regclsMultipleUse, uintptr(unsafe.Pointer(&cookie)))
	if hr != 0 {
		return fmt.Errorf("register for clicks: %w", ole.NewError(hr))
	}
	t.mu.Lock()
	t.answers = true
	t.mu.Unlock()
	<-ctx.Done()
	_, _, _ = revokeClassObject.Call(uintptr(cookie))
	return nil
}

// push pushes toasts until ctx ends.
func (t *toasts) push(ctx context.Context) {
	runtime.LockOSThread() // as in answer
	var never error        // why there will be none; nil means that there may be
	for {
		select {
		case job := <-t.jobs:
			err := never
			if err == nil {
				// Without options: the library's other way is a script made of the text.
				err = wintoast.Push(t.cfg.AppID, job.xml)
			}
			if e, ok := errors.AsType[*ole.OleError](err); ok && e.Code() == ole.E_NOINTERFACE {
				never = err // the library does nothing from now on, and calls that success
			}
			job.done <- err
		case <-ctx.Done():
			return
		}
	}
}

// show implements backend.
func (t *toasts) show(ctx context.Context, n Notification) error {
	text, err := toast(n)
	if err != nil {
		return fmt.Errorf("write a toast: %w", err)
	}
	job := toastJob{xml: text, done: make(chan error, 1)}
	select {
	case t.jobs <- job:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err = <-job.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil {
		// There is no last resort here: what others have is a script on Windows.
		err = fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	t.mu.Lock()
	t.problem = err
	t.mu.Unlock()
	return err
}

// withdraw implements backend. The library gives toasts no names, so that they
// cannot be taken back: a click on an old one reaches OnAction, which looks at
// the true state.
func (t *toasts) withdraw(context.Context, string) error { return nil }

// holds implements backend.
func (t *toasts) holds(string) bool { return true }

// register tells Windows who berth is: its name, its icon, the class that
// clicks arrive at and the program to start for one. Values are written each
// time, since the program may have moved.
func (t *toasts) register() error {
	app := classes + `AppUserModelId\` + t.cfg.AppID
	errs := []error{
		setValue(app, "DisplayName", t.cfg.AppName),
		setValue(app, "CustomActivator", activator),
	}
	if len(t.cfg.Icon) > 0 {
		path, err := iconFile(t.cfg)
		if err == nil {
			err = setValue(app, "IconUri", path)
		}
		errs = append(errs, err)
	}
	if len(t.cfg.Launch) > 0 {
		errs = append(errs, setValue(classes+`CLSID\`+activator+`\LocalServer32`, "",
			windows.ComposeCommandLine(t.cfg.Launch)+startedForActivations))
	}
	return errors.Join(errs...)
}

func setValue(path, name, value string) error {
	key, _, err := registry.CreateKey(registry.CURRENT_USER, path, registry.SET_VALUE)
	if err != nil {
		return fmt.Errorf("make registry key %q: %w", path, err)
	}
	defer func() { _ = key.Close() }()
	if err := key.SetStringValue(name, value); err != nil {
		return fmt.Errorf("set %q of registry key %q: %w", name, path, err)
	}
	return nil
}

// iconFile puts the icon where Windows can read it.
func iconFile(cfg Config) (string, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the icon: %w", err)
	}
	path := filepath.Join(folder, words.Slug(cfg.AppName), "notification.png")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, cfg.Icon) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make a place for the icon: %w", err)
	}
	return path, atomicfile.Write(path, cfg.Icon, 0o600)
}
