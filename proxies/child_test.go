package proxies

const childEnv = "BERTH_TEST_CHILD"

func runChild(string) {}
