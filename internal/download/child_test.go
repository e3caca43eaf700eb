package download_test

// children are the programs that tests run as processes of their own.
var children = map[string]func(args []string) int{}
