complete -c supervisord -s c -l configuration -d 'read this configuration file (default: the first of the usual places that exists)' -r -F
complete -c supervisord -s u -l user -d 'become this user (name or number)' -r -f -a "(__fish_complete_users)"
complete -c supervisord -s m -l umask -d 'file mode mask of the daemon, octal (default 022)' -r
complete -c supervisord -s d -l directory -d 'working directory of the daemon' -r -f -a "(__fish_complete_directories)"
complete -c supervisord -s l -l logfile -d 'use FILENAME as logfile path' -r -F
complete -c supervisord -s y -l logfile_maxbytes -d 'rotate the logfile at this size (default 50MB, 0 = never)' -r
complete -c supervisord -s z -l logfile_backups -d 'rotated logfiles to keep (default 10)' -r
complete -c supervisord -s e -l loglevel -d 'log this and what is more important: critical, error, warn, info, debug, trace, blather (default info)' -r -f -a "critical\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''
blather\t''"
complete -c supervisord -s j -l pidfile -d 'write the process id of the daemon to FILENAME' -r -F
complete -c supervisord -s i -l identifier -d 'name of this instance (default supervisor)' -r
complete -c supervisord -s q -l childlogdir -d 'directory of automatic program logs' -r -f -a "(__fish_complete_directories)"
complete -c supervisord -s a -l minfds -d 'file descriptors that must be available (default 1024)' -r
complete -c supervisord -l minprocs -d 'processes that must be available (default 200)' -r
complete -c supervisord -l profile_options -d 'accepted for compatibility, without effect' -r
complete -c supervisord -l dump-config -d 'print the effective configuration and exit' -r -f -a "json\t''"
complete -c supervisord -l take-over -d 'take the place of the supervisord that runs, or of the one at SERVERURL; its programs run on' -r
complete -c supervisord -s n -l nodaemon -d 'stay in the foreground (as nodaemon=true)'
complete -c supervisord -s s -l silent -d 'in the foreground, write no log to stdout (as silent=true)'
complete -c supervisord -s h -l help -d 'print this text and exit'
complete -c supervisord -s v -l version -d 'print the version of Supervisor that this replaces and exit'
complete -c supervisord -s k -l nocleanup -d 'keep the automatic program logs of earlier runs'
complete -c supervisord -s t -l strip_ansi -d 'remove ANSI escape sequences from programs\' logs'
complete -c supervisord -l check -d 'validate the configuration, print every problem and exit'
complete -c supervisord -l strict -d 'count warnings about the configuration as errors'
